"""What an operator must hear of without looking: a certificate that ends, a route suspended for long, mail grown old,
a server that is fetched from, or sent events to, and is out of reach.

An alert is a warning on standard error and an ``N`` line in the main log with the news ``alert``. It is told again
after a day (of a certificate that has more than a week: after a week) while what it tells of lasts, and when it got
worse.

Rules: Watch is pure; what cannot be read or asked is told of elsewhere, and no alert.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from mcmt.clock import Clock
from mcmt.config.settings import MonitorSettings, Settings
from mcmt.control.protocol import DomainStatus, EngineStatus
from mcmt.errors import ControlError, SpoolError
from mcmt.intake.sources import is_connected

log = logging.getLogger(__name__)

LOOK = 60.0
"""Seconds between two looks."""
CERTIFICATES = 3600.0
"""Seconds between two looks into certificates."""
DAY = 86400.0
TIERS = ((0.0, DAY), (1.0, DAY), (7.0, DAY), (30.0, 7 * DAY))
"""Days that a certificate has left, at most, and seconds after which that is told again."""

_OPTION = "tls_certificate"
"""What a certificate's file is called in the options of every listener and channel that has one."""


class Alert(NamedTuple):
    """One thing to tell."""

    domain: str
    """Empty: it concerns no domain, or several."""
    text: str


class View(NamedTuple):
    """What the engine says of itself."""

    domains: Sequence[DomainStatus]
    """Every one that has something to do."""
    away: Mapping[str, Alert] = {}
    """What to tell, by the name of whatever is out of reach at the moment; ``{}`` stands for how long."""


class Watch:
    """Which alerts are due, given what there is to see."""

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._since: dict[str, float] = {}
        self._away: dict[str, float] = {}
        self._told: dict[tuple[str, str, float], float] = {}

    def domains(self, now: float, domains: Sequence[DomainStatus]) -> list[Alert]:
        """*now*: monotonic seconds."""
        suspended = {one.domain for one in domains if one.state.startswith("suspended")}
        self._since = {name: self._since.get(name, now) for name in suspended}
        found: dict[tuple[str, str, float], Alert] = {}
        for one in domains:
            held, limit = now - self._since.get(one.domain, now), self._settings.alert_suspended
            if one.domain in suspended and one.queued and limit and held >= limit:
                why = f": {one.reason}" if one.reason else ""
                text = f"{one.state} for {_long(held)} or more, and {one.queued} deliveries wait{why}"
                found["suspended", one.domain, 0.0] = Alert(one.domain, text)
            elif self._settings.alert_oldest and (one.oldest or 0.0) >= self._settings.alert_oldest:
                text = f"the oldest of {one.queued} deliveries waits for {_long(one.oldest or 0.0)}; {one.state}"
                found["oldest", one.domain, 0.0] = Alert(one.domain, f"{text}: {one.reason}" if one.reason else text)
        return self._due(now, ("suspended", "oldest"), found, lambda _: DAY)

    def away(self, now: float, away: Mapping[str, Alert]) -> list[Alert]:
        """*away*: see View."""
        self._away = {name: self._away.get(name, now) for name in away}
        limit = self._settings.alert_disconnected
        found = {
            ("away", name, 0.0): Alert(alert.domain, alert.text.replace("{}", _long(now - self._away[name]), 1))
            for name, alert in away.items()
            if limit and now - self._away[name] >= limit
        }
        return self._due(now, ("away",), found, lambda _: DAY)

    def certificates(self, now: float, ends: Mapping[Path, tuple[str, float]]) -> list[Alert]:
        """*ends*: by file, the domain that it belongs to and the days that it has left."""
        found, again = {}, dict(TIERS)
        for path, (domain, days) in ends.items():
            tier = next((most for most, _ in TIERS if days <= most), None)
            if tier is not None:
                left = "has expired" if days <= 0 else "expires in a day"
                if days >= 1.5:
                    left = f"expires in {days:.0f} days"
                text = f"the certificate {path} {left}: have a new one made"
                found["certificate", str(path), tier] = Alert(domain, text)
        return self._due(now, ("certificate",), found, lambda key: again[key[2]])

    def _due(
        self,
        now: float,
        kinds: Sequence[str],
        found: Mapping[tuple[str, str, float], Alert],
        again: Callable[[tuple[str, str, float]], float],
    ) -> list[Alert]:
        # What is over is forgotten: when it comes again, it is news.
        self._told = {key: at for key, at in self._told.items() if key[0] not in kinds or key in found}
        due = [key for key in found if key not in self._told or now - self._told[key] >= again(key)]
        self._told |= dict.fromkeys(due, now)
        return [found[key] for key in due]


class Alerts:
    """Looks and tells, from ``start`` to ``close``."""

    def __init__(
        self,
        settings: Settings,
        look: Callable[[], Awaitable[View | None]],
        note: Callable[[str, str], Awaitable[object]],
        clock: Clock,
    ) -> None:
        """*look*: None: nobody can tell now. *note*: has a domain and a text written into the main log; may raise
        ControlError and SpoolError."""
        self._watch = Watch(settings.monitor)
        self._files = certificates_of(settings)
        self._look = look
        self._note = note
        self._clock = clock
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def reload(self, settings: Settings) -> None:
        """The certificates of other settings; ``monitor`` stays as it is."""
        self._files = certificates_of(settings)
        self._read_at = float("-inf")

    async def start(self) -> None:
        """Begin; the first look is at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="alerts")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("there may be something to alert of, and it could not be found out")
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Look once, and tell what is due."""
        now = self._clock.monotonic()
        due: list[Alert] = []
        if (view := await self._look()) is not None:
            due += self._watch.domains(now, view.domains) + self._watch.away(now, view.away)
        if now - self._read_at >= CERTIFICATES:
            self._read_at = now
            ends = await asyncio.to_thread(_ends, self._files, self._clock.time())
            due += self._watch.certificates(now, ends)
        for domain, text in due:
            log.warning("%s", f"{domain}: {text}" if domain else text)
            try:
                await self._note(domain, text)
            except (ControlError, SpoolError) as error:
                log.warning("this alert is not in the main log: %s", error)


def away_of(engine: EngineStatus) -> dict[str, Alert]:
    """What of an engine is out of reach, or gives nothing; see View."""
    found = {}
    for one in engine.sources:
        if one.state != "connected":
            name = f"{one.kind} {one.address}, tube {one.name}"
            what = "nothing is taken" if is_connected(one) else "not connected"
            found[name] = Alert(one.domain, _because(f"{name}: {what} for {{}} or more", one.reason))
    for component in engine.components:
        if not component.connected:
            name = f"the XMPP component {component.jid}"
            text = f"{name}: not connected to {component.place} for {{}} or more"
            found[name] = Alert("", _because(text, component.reason))
    for webhook in engine.webhooks:
        if webhook.state != "up":
            name = f"the webhook {webhook.name}"
            text = f"{name}: {webhook.state} for {{}} or more, and {webhook.events} events wait"
            found[name] = Alert("", _because(text, webhook.reason))
    return found


def _because(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text


def certificates_of(settings: Settings) -> dict[Path, str]:
    """Every certificate that the configuration names, and the first domain that it belongs to; empty: a listener's."""
    found: dict[Path, str] = {}
    for listener in (*settings.listen, *settings.gateways, *settings.http.listen):
        if (path := getattr(listener, _OPTION)) is not None:
            found.setdefault(path, "")
    for name, domain in settings.domains.items():
        if isinstance(path := getattr(domain.options, _OPTION, None), Path):
            found.setdefault(path, name)
    return found


def _ends(files: Mapping[Path, str], now: float) -> dict[Path, tuple[str, float]]:
    found = {}
    for path, domain in files.items():
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            continue
        found[path] = (domain, (certificate.not_valid_after_utc.timestamp() - now) / DAY)
    return found


def _long(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.0f} min"
