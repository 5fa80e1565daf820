"""What the engine answers to each request: items, made as they are sent, over all its shards.

Rules: an action is carried out by every shard before its answer; a listing holds one page of each shard in memory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

import mcmt
from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.control.protocol import (
    Action,
    Counted,
    DomainStatus,
    EngineStatus,
    ForgetTokens,
    IdLists,
    Ids,
    LearnTokens,
    Question,
    Queue,
    Rates,
    Resume,
    Retry,
    Show,
    Status,
    Suspend,
    TokenRequest,
    Tokens,
)
from mcmt.control.station import Station
from mcmt.errors import ControlError
from mcmt.eventlog.tally import Tally, Totals
from mcmt.spool.port import Entry, GoneToken, TokenTable

PAGE = 500
"""Entries of a listing read at a time."""
IDS = 1000
"""Ids listed at a time."""
TOKENS = 1000
"""Gone tokens listed, or forgotten, at a time."""

_GRAVITY = ("idle", "up", "no stanza", "down")
"""States of a domain, the one that is told last where shards differ; past them, why it is suspended."""


class Front(Protocol):
    """What is asked of the process that clients of the engine see."""

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Host and port of every SMTP socket."""

    @property
    def sessions(self) -> int:
        """SMTP clients connected."""

    @property
    def stations(self) -> Sequence[Station]:
        """Every shard, with its engine."""

    @property
    def tokens(self) -> TokenTable:
        """The gone tokens."""

    @property
    def tally(self) -> Tally:
        """What has happened since the start, counted."""

    @property
    def workers(self) -> Sequence[int]:
        """Pids of the processes that deliver."""

    @property
    def missing(self) -> Sequence[str]:
        """Why some shards are not among them at the moment: one text each."""


class Answers:
    """Answers for one engine, which has been up since this was made."""

    def __init__(self, settings: Settings, front: Front, clock: Clock) -> None:
        self._settings = settings
        self._front = front
        self._clock = clock
        self._started = clock.monotonic()

    @property
    def crew(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The processes that deliver, and what is missing: the same before and after, nobody came or went."""
        return tuple(self._front.workers), tuple(self._front.missing)

    def items(self, request: Question | Action | TokenRequest) -> AsyncIterator[msgspec.Struct]:
        """The items that answer *request*. Iterating raises SpoolError, and ControlError for an action refused."""
        match request:
            case Status():
                return self._status()
            case Rates():
                return self._rates()
            case Queue():
                return self._queue(request)
            case Show():
                return self._show(request)
            case Ids():
                return self._ids()
            case Suspend() | Resume() | Retry():
                return self._act(request)
            case Tokens():
                return self._tokens(request)
            case ForgetTokens():
                return self._forget(request)
            case LearnTokens():
                return self._learn(request)

    async def _status(self) -> AsyncIterator[EngineStatus | DomainStatus]:
        missing = tuple(self._front.missing)
        seen = await asyncio.gather(*(station.look() for station in self._front.stations))
        settings, now = self._settings, self._clock.time()
        by_domain: dict[str, list[DomainStatus]] = {}
        for one in seen:
            for domain in one.domains:
                by_domain.setdefault(domain.domain, []).append(domain)
        merged = [_merge(by_domain[name]) for name in sorted(by_domain)]
        oldest = min((one.outbox_oldest for one in seen if one.outbox_oldest is not None), default=now)
        yield EngineStatus(
            version=mcmt.__version__,
            pid=os.getpid(),
            uptime=self._clock.monotonic() - self._started,
            config=str(settings.file.absolute()),
            addresses=tuple((host, port) for host, port in self._front.addresses),
            sessions=self._front.sessions,
            spool=str(settings.spool.path),
            queued=sum(domain.queued for domain in merged),
            resident=sum(one.resident for one in seen),
            quarantined=sum(one.quarantined for one in seen),
            outbox_lag=max(0.0, now - oldest),
            workers=tuple(self._front.workers),
            missing=missing,
            stuck=any(one.stuck for one in seen),
        )
        for domain in merged:
            yield domain

    async def _rates(self) -> AsyncIterator[Totals]:
        for totals in self._front.tally.totals():
            yield totals

    async def _act(self, request: Action) -> AsyncIterator[DomainStatus]:
        stations = self._all_stations()
        # The first one's refusal is the answer: what it does not know, the others do not know either.
        first = await stations[0].act(request, tell=True)
        others = await asyncio.gather(*(station.act(request, tell=False) for station in stations[1:]))
        yield _merge([first, *others])

    async def _queue(self, request: Queue) -> AsyncIterator[Entry]:
        stations = self._all_stations()
        wanted = PAGE if request.limit is None else max(0, min(PAGE, request.limit))
        listings = [_Listing(station, request.domain, wanted) for station in stations]
        await asyncio.gather(*(listing.read() for listing in listings))
        left = request.limit
        while (left is None or left > 0) and (listings := [listing for listing in listings if listing.entries]):
            first = min(listings, key=_Listing.received) if len(listings) > 1 else listings[0]
            yield first.entries.pop()
            left = None if left is None else left - 1
            if not first.entries and left != 0:
                await first.read()

    async def _show(self, request: Show) -> AsyncIterator[Entry]:
        for found in await asyncio.gather(*(station.find(request.id) for station in self._all_stations())):
            for entry in found:
                yield entry

    async def _ids(self) -> AsyncIterator[IdLists]:
        for station in self._all_stations():
            after = 0
            while (page := await station.ids(after, IDS)) is not None:
                after = page.last
                yield IdLists(due=tuple(page.due), waiting=tuple(page.waiting))

    async def _tokens(self, request: Tokens) -> AsyncIterator[GoneToken]:
        after, left = request.after, request.limit
        while left is None or left > 0:
            wanted = TOKENS if left is None else min(TOKENS, left)
            page = await asyncio.to_thread(self._front.tokens.page, request.domain, after, wanted)
            for token in page:
                yield token
            if len(page) < wanted:
                return
            after, left = page[-1].number, None if left is None else left - wanted

    async def _forget(self, request: ForgetTokens) -> AsyncIterator[Counted]:
        table, domain = self._front.tokens, request.domain
        if request.tokens:
            yield Counted(count=await asyncio.to_thread(table.forget, domain, request.tokens))
            return
        count = 0
        # By the page: whoever looks a token up, or writes one, does not wait for all of it.
        while page := await asyncio.to_thread(table.forget_page, domain, request.learned_before, TOKENS):
            count += page
        yield Counted(count=count)

    async def _learn(self, request: LearnTokens) -> AsyncIterator[Counted]:
        yield Counted(count=await asyncio.to_thread(self._front.tokens.learn, request.tokens))

    def _all_stations(self) -> Sequence[Station]:
        if missing := self._front.missing:
            raise ControlError(f"{'; '.join(missing)}: try again in a moment")
        return self._front.stations


class _Listing:
    """One shard's part of a listing, a page at a time."""

    def __init__(self, station: Station, domain: str | None, wanted: int) -> None:
        self._station = station
        self._domain = domain
        self._wanted = wanted
        self._after = 0
        self._ended = wanted == 0
        self.entries: list[Entry] = []
        """Read and not told yet, the next one last."""

    def received(self) -> float:
        """When the next one was received."""
        return self.entries[-1].received

    async def read(self) -> None:
        """Read the next page, if there is one."""
        if self._ended:
            return
        page = await self._station.page(self._domain, self._after, self._wanted)
        self._ended = len(page) < self._wanted
        if page:
            self._after = page[-1][0]
        self.entries = [entry for _, entry in reversed(page)]


def _merge(parts: Sequence[DomainStatus]) -> DomainStatus:
    """One domain over all shards: counts together, the state of the one that fares worst."""
    if len(parts) == 1:
        return parts[0]

    def gravity(part: DomainStatus) -> tuple[int, bool]:
        # A shard in which nothing is due has no reason at hand.
        return _GRAVITY.index(part.state) if part.state in _GRAVITY else len(_GRAVITY), bool(part.reason)

    worst = max(parts, key=gravity)
    return msgspec.structs.replace(
        worst,
        connections=sum(part.connections for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        ready=sum(part.ready for part in parts),
        held=sum(part.held for part in parts),
        queued=sum(part.queued for part in parts),
        oldest=max((part.oldest for part in parts if part.oldest is not None), default=None),
        next_due=min((part.next_due for part in parts if part.next_due is not None), default=None),
    )
