"""What the control socket asks of one shard and its engine: the same whether they run in this process or another.

Rules: an action is carried out before its answer; a page is what is held in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.control.protocol import Action, DomainStatus, Resume, Retry, Suspend
from mcmt.spool.port import Backlog, Entry, IdPage, Spool

Page = Sequence[tuple[int, Entry]]
"""Entries with their rows, in the order of rows."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How one shard and its engine fare."""

    resident: int
    """Deliveries in memory."""
    quarantined: int
    """Spool rows that could not be read."""
    outbox_oldest: float | None
    """When the oldest event that waits for its line happened, seconds since the epoch."""
    domains: tuple[DomainStatus, ...]
    """Those that have deliveries, connections, or are suspended, by name."""
    stuck: bool = False
    """The shard refuses what became of deliveries, and nothing is sent until it takes it."""


class Station(Protocol):
    """One shard and its engine. Every method raises SpoolError, and ControlError where it is out of reach."""

    async def look(self) -> Seen:
        """How it fares."""

    async def act(self, action: Action, *, tell: bool) -> DomainStatus:
        """Carry out; *tell* the logs, which one of all stations does. Raises ControlError when it is refused."""

    async def page(self, domain: str | None, after: int, limit: int) -> Page:
        """Up to *limit* entries past row *after*."""

    async def ids(self, after: int, limit: int) -> IdPage | None:
        """Up to *limit* ids past row *after*; None: there are no more."""

    async def find(self, id: str) -> Sequence[Entry]:  # noqa: A002 - the spool's word
        """The delivery of that id, or all of that batch id."""


class Engine(Protocol):
    """What is asked of the engine."""

    def snapshot(self) -> list[dict[str, object]]:
        """One mapping a domain, with names of DomainStatus."""

    @property
    def resident(self) -> int:
        """Deliveries in memory."""

    @property
    def stuck(self) -> bool:
        """The spool refuses what became of deliveries."""

    def suspend(self, domain: str, reason: str, *, tell: bool = True) -> None:
        """Send nothing to *domain*. Raises ControlError."""

    def resume(self, domain: str, *, trust: bool = False, tell: bool = True) -> None:
        """Send to it again. Raises ControlError."""

    def retry(self, domain: str) -> None:
        """Try now what waits. Raises ControlError."""

    def suspended(self) -> Mapping[str, object]:
        """The domains suspended by hand."""


class LocalStation:
    """A shard and its engine in this process."""

    def __init__(self, settings: Settings, spool: Spool, engine: Engine, clock: Clock) -> None:
        self._settings = settings
        self._spool = spool
        self._engine = engine
        self._clock = clock

    async def look(self) -> Seen:
        """See Station."""
        backlogs = {backlog.domain: backlog for backlog in await self._spool.backlog()}
        waiting = await self._spool.read_outbox(0, 1)
        quarantined = await self._spool.quarantined()
        active = {str(domain["domain"]): domain for domain in self._engine.snapshot()}
        names = sorted(active.keys() | backlogs.keys() | self._engine.suspended().keys())
        return Seen(
            resident=self._engine.resident,
            quarantined=quarantined,
            outbox_oldest=waiting[0].events[0].time if waiting and waiting[0].events else None,
            domains=tuple(self._domain(name, active.get(name), backlogs.get(name)) for name in names),
            stuck=self._engine.stuck,
        )

    async def act(self, action: Action, *, tell: bool) -> DomainStatus:
        """See Station."""
        domain = action.domain
        match action:
            case Suspend():
                self._engine.suspend(domain, action.reason, tell=tell)
            case Resume():
                self._engine.resume(domain, trust=action.trust, tell=tell)
            case Retry():
                self._engine.retry(domain)
        backlogs = await self._spool.backlog(domain)
        active = {str(status["domain"]): status for status in self._engine.snapshot()}
        return self._domain(domain, active.get(domain), next(iter(backlogs), None))

    async def page(self, domain: str | None, after: int, limit: int) -> Page:
        """See Station."""
        return await self._spool.browse(domain, after, limit)

    async def ids(self, after: int, limit: int) -> IdPage | None:
        """See Station."""
        return await self._spool.ids(after, limit, self._clock.time())

    async def find(self, id: str) -> Sequence[Entry]:  # noqa: A002 - the spool's word
        """See Station."""
        return await self._spool.find(id)

    def _domain(self, name: str, active: Mapping[str, object] | None, backlog: Backlog | None) -> DomainStatus:
        held = _held(backlog, self._clock.time())
        return msgspec.convert({**(active or self._resting(name)), **held}, DomainStatus)

    def _resting(self, name: str) -> Mapping[str, object]:
        """A domain of which the engine holds nothing in memory at the moment."""
        stanza = self._settings.domain(name)
        if stanza is None:
            return {"domain": name, "state": "no stanza", "reason": "nothing under domain: names it any more"}
        state = "suspended by hand" if name in self._engine.suspended() else "idle"
        return {"domain": name, "channel": stanza.delivery_method, "route": str(stanza.routes[0]), "state": state}


def _held(backlog: Backlog | None, now: float) -> Mapping[str, object]:
    """What the spool says of a domain, with times from now."""
    if backlog is None or not backlog.deliveries:
        return {}
    return {
        "queued": backlog.deliveries,
        "oldest": None if backlog.oldest is None else max(0.0, now - backlog.oldest),
        "next_due": None if backlog.next_due is None else max(0.0, backlog.next_due - now),
    }
