"""What the engine answers to each request: items, made as they are sent, over all its shards.

Rules: an action is carried out by every shard before its answer; a listing holds one page of each shard in memory.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import msgspec

import mcmt
from mcmt.clock import Clock
from mcmt.config.curfew import Curfew, quiet
from mcmt.config.rate import Rate
from mcmt.config.rules import RuleBook
from mcmt.config.settings import DomainSettings, Settings
from mcmt.config.shaped import shaped
from mcmt.control.front import Front
from mcmt.control.merging import by_domain, merge
from mcmt.control.protocol import (
    Action,
    Count,
    Counted,
    Counts,
    Domain,
    DomainDetail,
    Domains,
    DomainStatus,
    EngineStatus,
    ForgetTokens,
    IdLists,
    Ids,
    LearnTokens,
    Order,
    Progress,
    Question,
    Queue,
    Rates,
    Reload,
    Reloaded,
    Resume,
    Retry,
    Show,
    Status,
    Suspend,
    Tokens,
)
from mcmt.control.registrations import AddRegistration, ListRegistrations, RemoveMadeDomain, RemoveRegistrations
from mcmt.control.station import Station
from mcmt.control.tables import counted, of_registrations, of_tokens
from mcmt.control.tracing import Tracer
from mcmt.engine.hands import Work
from mcmt.errors import ControlError
from mcmt.eventlog.tally import Totals
from mcmt.spool.port import Entry, Selection

PAGE = 500
"""Entries of a listing read at a time."""
IDS = 1000
"""Ids listed at a time."""
ANSWERS = 20
"""Different last answers that are told of a domain."""


class Answers:
    """Answers for one engine, which has been up since this was made."""

    def __init__(self, settings: Settings, front: Front, clock: Clock) -> None:
        self._settings = settings
        self._front = front
        self._clock, self._started = clock, clock.monotonic()
        self.trace = Tracer(front, clock.time).trace

    def reload(self, settings: Settings) -> None:
        """Other settings hold."""
        self._settings = settings

    @property
    def crew(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The processes that deliver, and what is missing: the same before and after, nobody came or went."""
        return tuple(self._front.workers), tuple(self._front.missing)

    def items(self, request: Question) -> AsyncIterator[msgspec.Struct]:
        """The items that answer *request*. Iterating raises SpoolError, and ControlError for an action refused."""
        match request:
            case Status():
                return self._status()
            case Reload():
                return self._reload(request)
            case Rates():
                return self._rates()
            case Queue():
                return self._queue(request)
            case Show():
                return self._show(request)
            case Count():
                return self._count(request)
            case Order():
                return self._order(request)
            case Ids():
                return self._ids()
            case Domains():
                return self._domains()
            case Domain():
                return self._domain(request.domain)
            case Suspend() | Resume() | Retry():
                return self._act(request)
            case Tokens() | ForgetTokens() | LearnTokens():
                return of_tokens(self._front.tokens, request)
            case ListRegistrations() | AddRegistration() | RemoveRegistrations():
                return of_registrations(self._front.registrations, request, self._clock)
            case RemoveMadeDomain():
                return self._remove_made_domain(request)

    async def _status(self) -> AsyncIterator[EngineStatus | DomainStatus]:
        missing = tuple(self._front.missing)
        seen = await asyncio.gather(*(station.look() for station in self._front.stations))
        settings, now = self._settings, self._clock.time()
        merged = by_domain(seen)
        oldest = min((one.outbox_oldest for one in seen if one.outbox_oldest is not None), default=now)
        yield EngineStatus(
            version=mcmt.__version__,
            pid=os.getpid(),
            uptime=self._clock.monotonic() - self._started,
            config=str(settings.file.absolute()),
            addresses=tuple((host, port) for host, port in self._front.addresses),
            listening=tuple((word, host, port) for word, host, port in self._front.listening),
            sessions=self._front.sessions,
            spool=str(settings.spool.path),
            queued=sum(domain.queued for domain in merged),
            held=sum(domain.on_hold for domain in merged),
            owed=sum(one.owed for one in seen),
            resident=sum(one.resident for one in seen),
            quarantined=sum(one.quarantined for one in seen),
            outbox_lag=max(0.0, now - oldest),
            workers=tuple(self._front.workers),
            missing=missing,
            webhooks=tuple(self._front.webhooks),
            telemetry=self._front.telemetry,
            stuck=any(one.stuck for one in seen),
            sources=tuple(source for one in seen for source in one.sources),
            components=await counted(self._front.registrations, self._front.attachments),
        )
        for domain in merged:
            yield domain

    async def _reload(self, request: Reload) -> AsyncIterator[Reloaded]:
        yield await self._front.reload(check=request.check)

    async def _remove_made_domain(self, request: RemoveMadeDomain) -> AsyncIterator[Counted]:
        await self._front.let_go_of(request.domain)
        yield Counted(count=1)

    async def _rates(self) -> AsyncIterator[Totals]:
        for totals in self._front.tally.totals():
            yield totals

    async def _act(self, request: Action) -> AsyncIterator[DomainStatus]:
        stations = self._all_stations()
        # The first one's refusal is the answer: what it does not know, the others do not know either.
        first = await stations[0].act(request, tell=True)
        others = await asyncio.gather(*(station.act(request, tell=False) for station in stations[1:]))
        yield merge([first, *others])

    async def _queue(self, request: Queue) -> AsyncIterator[Entry]:
        stations = self._all_stations()
        wanted = PAGE if request.limit is None else max(0, min(PAGE, request.limit))
        selection = request.selection
        if request.domain is not None:
            selection = msgspec.structs.replace(selection, domain=request.domain)
        listings = [_Listing(station, selection, wanted) for station in stations]
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
                yield IdLists(due=tuple(page.due), waiting=tuple(page.waiting), held=tuple(page.held))

    async def _count(self, request: Count) -> AsyncIterator[Counts]:
        counting = [_Place(station) for station in self._all_stations()]
        while counting:
            # A page of every shard at a time: each has a process of its own.
            pages = await asyncio.gather(
                *(place.station.tally(request.selection, place.after, place.through) for place in counting)
            )
            for place, page in zip(counting, pages, strict=True):
                place.go_on(page.after, page.through)
                for one in page.domains:
                    # Messages follow each other by row: only the last one of a page may go on in the next.
                    messages = one.messages - (place.last.get(one.domain) == one.first)
                    place.last[one.domain] = one.last
                    yield Counts(
                        shard=place.station.shard,
                        through=page.through,
                        domain=one.domain,
                        deliveries=one.deliveries,
                        messages=messages,
                        held=one.held,
                    )
            counting = [place for place in counting if not place.ended]

    async def _order(self, request: Order) -> AsyncIterator[Progress]:
        if not request.everything and request.selection == Selection(held=request.selection.held):
            raise ControlError("nothing is selected: name what is meant, or say that it is everything")
        work = Work(request.verb, request.reason, request.to)
        places = [_Place(station, request.through.get(station.shard, 0)) for station in self._all_stations()]
        while working := [place for place in places if place.through and not place.ended]:
            pages = await asyncio.gather(
                *(place.station.work(work, request.selection, place.after, place.through) for place in working)
            )
            work = msgspec.structs.replace(work, first=False)
            for place, page in zip(working, pages, strict=True):
                place.go_on(page.after, place.through)
                yield msgspec.convert(msgspec.structs.asdict(page.handled), Progress)

    async def _domains(self) -> AsyncIterator[DomainStatus]:
        seen = await asyncio.gather(*(station.look() for station in self._all_stations()))
        status = {domain.domain: domain for domain in by_domain(seen)}
        for name in sorted(status.keys() | self._settings.domains.keys()):
            yield status.get(name) or self._resting(name)

    async def _domain(self, name: str) -> AsyncIterator[DomainDetail]:
        stations = self._all_stations()
        seen = await asyncio.gather(*(station.look() for station in stations))
        status = next((domain for domain in by_domain(seen) if domain.domain == name), None)
        stanza = self._settings.domain(name)
        if stanza is None and status is None:
            raise ControlError(f"there is no stanza for {name} under domain: in {self._settings.file}")
        status = status or self._resting(name)
        if stanza is not None:
            stanza = shaped(stanza, name, [each.rule for each in status.rules])
        answers: Counter[str] = Counter()
        for found in await asyncio.gather(*(station.answers(name) for station in stations)):
            answers.update(found)
        yield DomainDetail(
            status=status,
            stanza="" if stanza is None else stanza.name,
            routes=() if stanza is None else tuple(str(route) for route in stanza.routes),
            settings={} if stanza is None else _told(stanza),
            answers=dict(answers.most_common(ANSWERS)),
        )

    def _resting(self, name: str) -> DomainStatus:
        """A domain that has nothing to do anywhere."""
        stanza = self._settings.domain(name)
        if stanza is None:
            return DomainStatus(domain=name, state="no stanza")
        state, reason = "suspended by suspend_delivery" if stanza.suspend_delivery else "idle", ""
        if state == "idle" and (curfew := quiet(stanza.curfew, self._clock.time())):
            state, reason = "curfew", str(curfew)
        route = str(stanza.routes[0])
        return DomainStatus(domain=name, channel=stanza.delivery_method, route=route, state=state, reason=reason)

    def _all_stations(self) -> Sequence[Station]:
        if missing := self._front.missing:
            raise ControlError(f"{'; '.join(missing)}: try again in a moment")
        return self._front.stations


class _Place:
    """How far a selection has been gone through in one shard."""

    def __init__(self, station: Station, through: int = 0) -> None:
        self.station = station
        self.through = through
        self.after = 0
        self.ended = False
        self.last: dict[str, int] = {}
        """By domain: the last message that was counted."""

    def go_on(self, after: int | None, through: int) -> None:
        """A page was done."""
        self.after, self.through, self.ended = after or 0, through, after is None


class _Listing:
    """One shard's part of a listing, a page at a time."""

    def __init__(self, station: Station, selection: Selection, wanted: int) -> None:
        self._station = station
        self._selection = selection
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
        page = await self._station.page(self._selection, self._after, self._wanted)
        self._ended = len(page) < self._wanted
        if page:
            self._after = page[-1][0]
        self.entries = [entry for _, entry in reversed(page)]


def _in_words(value: object) -> object:
    if isinstance(value, tuple) and all(isinstance(each, Curfew) for each in value):
        return "; ".join(map(str, value)) or None
    if isinstance(value, RuleBook):
        return "; ".join(map(str, value)) or None
    return str(value) if isinstance(value, Rate) else value


def _told(stanza: DomainSettings) -> dict[str, str | int | float | bool | None]:
    """A stanza's values that are plain, by option."""
    values = ((name, getattr(stanza, name)) for name in stanza.__struct_fields__ if name != "name")
    plain = ((name, _in_words(value)) for name, value in values)
    return {name: value for name, value in plain if value is None or isinstance(value, str | float | int)}
