"""What the control socket asks of one shard and its engine: the same whether they run in this process or another.

Rules: an action is carried out before its answer; a page is what is held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from mcmt.clock import Clock
from mcmt.config.curfew import quiet
from mcmt.config.rules import Rule
from mcmt.config.settings import Settings
from mcmt.control.protocol import Action, DomainStatus, Resume, Retry, Suspend
from mcmt.control.rule_status import rule_status
from mcmt.engine.hands import Handled, Work
from mcmt.engine.rulings import Ruling
from mcmt.engine.suspensions import Suspension
from mcmt.intake.sources import SourceStatus
from mcmt.message.event import Event, Kind
from mcmt.spool.port import Backlog, Entry, IdPage, Selection, Spool, TallyPage
from mcmt.wire.trace import Told, Tracing, Watch

WORK = 500
"""Deliveries in one transaction of work done by hand: some 10 ms of the writer, between which all others get theirs."""

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
    owed: int = 0
    """Reports that senders are owed."""
    domains: tuple[DomainStatus, ...]
    """Those that have deliveries, connections, or are suspended, by name."""
    stuck: bool = False
    """The shard refuses what became of deliveries, and nothing is sent until it takes it."""
    sources: tuple[SourceStatus, ...] = ()
    """What its process takes jobs from."""


class Worked(msgspec.Struct, frozen=True):
    """One page of work."""

    handled: Handled
    after: int | None
    """The row to go on from; None: that was all."""


class Station(Protocol):
    """One shard and its engine. Every method raises SpoolError, and ControlError where it is out of reach."""

    @property
    def shard(self) -> int:
        """The shard's number."""

    async def look(self) -> Seen:
        """How it fares."""

    async def act(self, action: Action, *, tell: bool) -> DomainStatus:
        """Carry out; *tell* the logs, which one of all stations does. Raises ControlError when it is refused."""

    async def page(self, selection: Selection, after: int, limit: int) -> Page:
        """Up to *limit* entries past row *after*."""

    async def tally(self, selection: Selection, after: int, through: int) -> TallyPage:
        """Count part of what is selected (mcmt/spool/port.py)."""

    async def answers(self, domain: str) -> Mapping[str, int]:
        """How many of the domain's deliveries had which last answer."""

    async def work(self, work: Work, selection: Selection, after: int, through: int) -> Worked:
        """Do *work* on the next page of what is selected, past row *after* and up to row *through*."""

    async def ids(self, after: int, limit: int) -> IdPage | None:
        """Up to *limit* ids past row *after*; None: there are no more."""

    async def find(self, id: str) -> Sequence[Entry]:  # noqa: A002 - the spool's word
        """The delivery of that id, or all of that batch id."""

    async def note(self, domain: str, text: str) -> None:
        """Have an alert written into the main log."""

    async def fetch_trace(self, watch: Watch) -> Told:
        """What was said on connections of the watch's domain since this was asked the last time. The first time the
        watch begins. Shards of one process have it in common."""

    async def end_trace(self, number: int) -> None:
        """The watch of that number is over."""


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

    def suspend(self, domain: str, reason: str, *, until: float = 0.0, tell: bool = True) -> None:
        """Send nothing to *domain*. Raises ControlError."""

    def resume(self, domain: str, *, trust: bool = False, tell: bool = True) -> None:
        """Send to it again. Raises ControlError."""

    def retry(self, domain: str) -> None:
        """Try now what waits. Raises ControlError."""

    def suspended(self) -> Mapping[str, Suspension]:
        """The domains suspended by hand."""

    def ruled(self, domain: str) -> Sequence[tuple[Ruling, Rule]]:
        """The rules in force at *domain*, in the order of the file."""

    @property
    def ruled_domains(self) -> Collection[str]:
        """Where rules are in force."""

    async def by_hand(self, work: Work, chosen: Mapping[int, str]) -> Handled:
        """Do something to rows of the spool, each with the domain it had. Raises SpoolError, ControlError."""


class LocalStation:
    """A shard and its engine in this process."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        engine: Engine,
        clock: Clock,
        shard: int = 0,
        tracing: Tracing | None = None,
    ) -> None:
        self.shard = shard
        self._tracing = tracing or Tracing(clock)
        self._settings = settings
        self._spool = spool
        self._engine = engine
        self._clock = clock
        self.sources: Callable[[], Sequence[SourceStatus]] = tuple
        """What this process takes jobs from, where it is the shard that they go to."""

    def reload(self, settings: Settings) -> None:
        """Other settings hold."""
        self._settings = settings

    async def look(self) -> Seen:
        """See Station."""
        backlogs = {backlog.domain: backlog for backlog in await self._spool.backlog()}
        waiting = await self._spool.read_outbox(0, 1)
        quarantined = await self._spool.quarantined()
        owed = await self._spool.owed()
        active = {str(domain["domain"]): domain for domain in self._engine.snapshot()}
        resting = self._engine.suspended().keys() | set(self._engine.ruled_domains)
        names = sorted(active.keys() | backlogs.keys() | resting)
        return Seen(
            resident=self._engine.resident,
            quarantined=quarantined,
            owed=owed,
            outbox_oldest=waiting[0].events[0].time if waiting and waiting[0].events else None,
            domains=tuple(self._domain(name, active.get(name), backlogs.get(name)) for name in names),
            stuck=self._engine.stuck,
            sources=tuple(self.sources()),
        )

    async def act(self, action: Action, *, tell: bool) -> DomainStatus:
        """See Station."""
        domain = action.domain
        match action:
            case Suspend():
                until = self._clock.time() + action.duration if action.duration else 0.0
                self._engine.suspend(domain, action.reason, until=until, tell=tell)
            case Resume():
                self._engine.resume(domain, trust=action.trust, tell=tell)
            case Retry():
                self._engine.retry(domain)
        backlogs = await self._spool.backlog(domain)
        active = {str(status["domain"]): status for status in self._engine.snapshot()}
        return self._domain(domain, active.get(domain), next(iter(backlogs), None))

    async def page(self, selection: Selection, after: int, limit: int) -> Page:
        """See Station."""
        return await self._spool.browse(selection, after, limit)

    async def tally(self, selection: Selection, after: int, through: int) -> TallyPage:
        """See Station."""
        return await self._spool.tally(selection, after, through)

    async def answers(self, domain: str) -> Mapping[str, int]:
        """See Station."""
        return await self._spool.answers(domain)

    async def work(self, work: Work, selection: Selection, after: int, through: int) -> Worked:
        """See Station."""
        chosen = await self._spool.choose(selection, after, through, WORK)
        handled = await self._engine.by_hand(work, chosen.domains) if chosen.domains else Handled()
        return Worked(handled, chosen.after)

    async def ids(self, after: int, limit: int) -> IdPage | None:
        """See Station."""
        return await self._spool.ids(after, limit, self._clock.time())

    async def find(self, id: str) -> Sequence[Entry]:  # noqa: A002 - the spool's word
        """See Station."""
        return await self._spool.find(id)

    async def note(self, domain: str, text: str) -> None:
        """See Station."""
        alert = Event(kind=Kind.ROUTE, time=self._clock.time(), domain=domain, phase="alert", text=text)
        await self._spool.record([alert])

    async def fetch_trace(self, watch: Watch) -> Told:
        """See Station."""
        return self._tracing.fetch(watch)

    async def end_trace(self, number: int) -> None:
        """See Station."""
        self._tracing.end(number)

    def _domain(self, name: str, active: Mapping[str, object] | None, backlog: Backlog | None) -> DomainStatus:
        now = self._clock.time()
        suspension = self._engine.suspended().get(name)
        until = {"until": max(0.0, suspension.until - now)} if suspension is not None and suspension.until else {}
        rules = {"rules": tuple(rule_status(*each) for each in self._engine.ruled(name))}
        state = active or self._resting(name)
        return msgspec.convert({**state, **_queued(backlog, now), **until, **rules}, DomainStatus)

    def _resting(self, name: str) -> Mapping[str, object]:
        """A domain of which the engine holds nothing in memory at the moment."""
        stanza = self._settings.domain(name)
        if stanza is None:
            return {"domain": name, "state": "no stanza", "reason": "nothing under domain: names it any more"}
        state = {"state": "suspended by suspend_delivery"} if stanza.suspend_delivery else {"state": "idle"}
        if state["state"] == "idle" and (curfew := quiet(stanza.curfew, self._clock.time())):
            state = {"state": "curfew", "reason": str(curfew)}
        ruled = self._engine.ruled(name)
        if reasons := [f"{ruling.rule}: {ruling.reason}" for ruling, rule in ruled if rule.suspend]:
            state = {"state": "suspended by a rule", "reason": "; ".join(reasons)}
        if (suspension := self._engine.suspended().get(name)) is not None:
            state = {"state": "suspended by hand", "reason": suspension.reason}
        return {"domain": name, "channel": stanza.delivery_method, "route": str(stanza.routes[0]), **state}


def _queued(backlog: Backlog | None, now: float) -> Mapping[str, object]:
    """What the spool says of a domain, with times from now."""
    if backlog is None or not backlog.deliveries:
        return {}
    return {
        "queued": backlog.deliveries,
        "on_hold": backlog.held,
        "high": backlog.high,
        "bulk": backlog.bulk,
        "oldest": None if backlog.oldest is None else max(0.0, now - backlog.oldest),
        "next_due": None if backlog.next_due is None else max(0.0, backlog.next_due - now),
    }
