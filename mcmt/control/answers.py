"""What the engine answers to each request: items, made as they are sent.

Rules: an action is carried out before its answer; a listing holds one page in memory.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import msgspec

import mcmt
from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.control.protocol import Action, DomainStatus, EngineStatus, Queue, Resume, Retry, Show, Status, Suspend
from mcmt.spool.port import Backlog, Entry, Spool

PAGE = 500
"""Entries of a listing read at a time."""


class Engine(Protocol):
    """What is asked of the engine."""

    def snapshot(self) -> list[dict[str, object]]:
        """One mapping a domain, with names of DomainStatus."""

    @property
    def resident(self) -> int:
        """Deliveries in memory."""

    def suspend(self, domain: str, reason: str) -> None:
        """Send nothing to *domain*. Raises ControlError."""

    def resume(self, domain: str, *, trust: bool = False) -> None:
        """Send to it again. Raises ControlError."""

    def retry(self, domain: str) -> None:
        """Try now what waits. Raises ControlError."""

    def suspended(self) -> Mapping[str, object]:
        """The domains suspended by hand."""


class Listener(Protocol):
    """What is asked of the SMTP listener."""

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Host and port of every socket."""

    @property
    def sessions(self) -> int:
        """Clients connected."""


class Answers:
    """Answers for one engine, which has been up since this was made."""

    def __init__(self, settings: Settings, spool: Spool, engine: Engine, listener: Listener, clock: Clock) -> None:
        self._settings = settings
        self._spool = spool
        self._engine = engine
        self._listener = listener
        self._clock = clock
        self._started = clock.monotonic()

    def items(self, request: Status | Queue | Show | Action) -> AsyncIterator[msgspec.Struct]:
        """The items that answer *request*. Iterating raises SpoolError, and ControlError for an action refused."""
        match request:
            case Status():
                return self._status()
            case Queue():
                return self._queue(request)
            case Show():
                return self._show(request)
            case Suspend() | Resume() | Retry():
                return self._act(request)

    async def _status(self) -> AsyncIterator[EngineStatus | DomainStatus]:
        backlogs = {backlog.domain: backlog for backlog in await self._spool.backlog()}
        waiting = await self._spool.read_outbox(0, 1)
        quarantined = await self._spool.quarantined()
        now = self._clock.time()
        settings = self._settings
        yield EngineStatus(
            version=mcmt.__version__,
            pid=os.getpid(),
            uptime=self._clock.monotonic() - self._started,
            config=str(settings.file.absolute()),
            addresses=tuple((host, port) for host, port in self._listener.addresses),
            sessions=self._listener.sessions,
            spool=str(settings.spool.path),
            queued=sum(backlog.deliveries for backlog in backlogs.values()),
            resident=self._engine.resident,
            quarantined=quarantined,
            outbox_lag=max(0.0, now - waiting[0].events[0].time) if waiting and waiting[0].events else 0.0,
        )
        active = {str(domain["domain"]): domain for domain in self._engine.snapshot()}
        for name in sorted(active.keys() | backlogs.keys() | self._engine.suspended().keys()):
            held = _held(backlogs.get(name), now)
            yield msgspec.convert({**(active.get(name) or self._resting(name)), **held}, DomainStatus)

    def _resting(self, name: str) -> Mapping[str, object]:
        """A domain of which the engine holds nothing in memory at the moment."""
        stanza = self._settings.domain(name)
        if stanza is None:
            return {"domain": name, "state": "no stanza", "reason": "nothing under domain: names it any more"}
        state = "suspended by hand" if name in self._engine.suspended() else "idle"
        return {"domain": name, "channel": stanza.delivery_method, "route": str(stanza.routes[0]), "state": state}

    async def _act(self, request: Action) -> AsyncIterator[DomainStatus]:
        match request:
            case Suspend():
                self._engine.suspend(request.domain, request.reason)
            case Resume():
                self._engine.resume(request.domain, trust=request.trust)
            case Retry():
                self._engine.retry(request.domain)
        backlogs = await self._spool.backlog(request.domain)
        active = {str(domain["domain"]): domain for domain in self._engine.snapshot()}
        held = _held(next(iter(backlogs), None), self._clock.time())
        status = {**(active.get(request.domain) or self._resting(request.domain)), **held}
        yield msgspec.convert(status, DomainStatus)

    async def _queue(self, request: Queue) -> AsyncIterator[Entry]:
        after, left = 0, request.limit
        while left is None or left > 0:
            wanted = PAGE if left is None else min(PAGE, left)
            page = await self._spool.browse(request.domain, after, wanted)
            for _, entry in page:
                yield entry
            if len(page) < wanted:
                return
            after = page[-1][0]
            left = None if left is None else left - len(page)

    async def _show(self, request: Show) -> AsyncIterator[Entry]:
        for entry in await self._spool.find(request.id):
            yield entry


def _held(backlog: Backlog | None, now: float) -> Mapping[str, object]:
    """What the spool says of a domain, with times from now."""
    if backlog is None or not backlog.deliveries:
        return {}
    return {
        "queued": backlog.deliveries,
        "oldest": None if backlog.oldest is None else max(0.0, now - backlog.oldest),
        "next_due": None if backlog.next_due is None else max(0.0, backlog.next_due - now),
    }
