"""Counts of the events that the event log reads, by domain: each event once while the process lives.

Rows are read again when a logger could not write them; a row counts by its sequence, which is never used twice. A
limited number of domains is counted by name, those of the configuration first, all others together as OTHER: recipients
choose domains where ``*`` takes any, and neither memory nor what is told of the counts may grow with them.

Rules: ``take`` and ``save`` in the event log's thread, everything else anywhere; a lock is held for a burst.

Measured on one core: 0.4 us an event, beside 17 us and more that the event log needs for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from threading import Lock

import msgspec

from mcmt.eventlog.outbox import EventTable
from mcmt.message.event import DOORS, GONE, Event, Kind, OutboxRow

OTHER = "other"
"""The name of all domains past the limit, and of whatever else has no name."""
DELAYS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
"""Upper bounds of the buckets from reception to the final answer, seconds."""
WIRES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The same from the request to the answer."""

_NEWS = frozenset({"down", "up", "suspended", "probe", "resumed", "alert", "rule_began", "rule_ended"})


class Histogram:
    """How many values lie in each bucket, the last one beyond all bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one."""
        # A bucket holds what is less than its bound or equal to it.
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class DomainTally:
    """Of one domain, or of all others."""

    def __init__(self) -> None:
        self.receptions = 0
        """Recipients accepted."""
        self.accepted = 0
        """Deliveries that they became."""
        self.delivered = 0
        self.transient: Counter[str] = Counter()
        """By class of the code (class_of)."""
        self.permanent: Counter[str] = Counter()
        self.route: Counter[str] = Counter()
        """News of the route, by their word."""
        self.tokens_gone = 0
        self.delay = Histogram(DELAYS)
        """Seconds from the reception to the final answer."""
        self.wire = Histogram(WIRES)
        """Seconds from the request to the answer, where there was one."""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What ended how for one domain, or for all others, since the engine was started."""

    domain: str
    accepted: int
    delivered: int
    transient: int
    permanent: int


class Tally:
    """``EventTable`` in front of another one: counts what passes."""

    def __init__(self, behind: EventTable, domains: Collection[str], limit: int) -> None:
        """*domains*: those that are counted by name before any other. *limit*: how many are counted by name."""
        self._behind = behind
        self._limit = limit
        self._last: dict[str, int] = {}
        self._lock = Lock()
        self._domains: dict[str, DomainTally] = {}
        self._rejections: Counter[str] = Counter()
        self._receptions_by_door: Counter[str] = Counter()
        self._rejections_by_door: Counter[str] = Counter()
        self._quarantined = 0
        for name in domains:
            if len(self._domains) < limit:
                self._domains[name] = DomainTally()

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        """See EventTable."""
        with self._lock:
            last = self._last.get(shard, 0)
            for row in rows:
                if row.sequence > last:
                    last = row.sequence
                    for event in row.events:
                        self._count(event)
            self._last[shard] = last
        self._behind.take(shard, rows)

    def save(self) -> None:
        """See EventTable."""
        self._behind.save()

    def name_of(self, domain: str) -> str:
        """The name that *domain* is counted under, from now on if it was not yet."""
        with self._lock:
            return domain if domain in self._domains or self._has_room(domain) else OTHER

    @property
    def lock(self) -> Lock:
        """Held while the counts below are read, and not for long."""
        return self._lock

    @property
    def domains(self) -> dict[str, DomainTally]:
        """By the name that they are counted under."""
        return self._domains

    @property
    def rejections(self) -> Counter[str]:
        """What was refused at a door, by code."""
        return self._rejections

    @property
    def receptions_by_door(self) -> Counter[str]:
        """Recipients accepted, by the word of the door (mcmt/message/event.py, DOORS)."""
        return self._receptions_by_door

    @property
    def rejections_by_door(self) -> Counter[str]:
        """What was refused, likewise."""
        return self._rejections_by_door

    @property
    def quarantined(self) -> int:
        """Rows that could not be read."""
        return self._quarantined

    def totals(self) -> list[Totals]:
        """Of every domain that is counted by name, and of the others."""
        with self._lock:
            return [
                Totals(
                    domain=name,
                    accepted=tally.accepted,
                    delivered=tally.delivered,
                    transient=tally.transient.total(),
                    permanent=tally.permanent.total(),
                )
                for name, tally in self._domains.items()
            ]

    def _has_room(self, domain: str) -> bool:
        if not domain or len(self._domains) >= self._limit:
            return False
        self._domains[domain] = DomainTally()
        return True

    def _of(self, domain: str) -> DomainTally:
        if self._has_room(domain):
            return self._domains[domain]
        return self._domains.setdefault(OTHER, DomainTally())

    def _count(self, event: Event) -> None:
        kind = event.kind
        if kind is Kind.REJECTION:
            self._rejections[event.code if _is_reply(event.code) else OTHER] += 1
            self._rejections_by_door[event.protocol if event.protocol in DOORS else OTHER] += 1
            return
        if kind is Kind.QUARANTINE:
            self._quarantined += 1
            return
        tally = self._domains.get(event.domain) or self._of(event.domain)
        if kind is Kind.DELIVERY:
            tally.delivered += 1
            tally.delay.add(event.queued)
            tally.wire.add(event.wire)
        elif kind is Kind.RECEPTION:
            tally.receptions += 1
            tally.accepted += event.deliveries
            self._receptions_by_door[event.protocol if event.protocol in DOORS else OTHER] += 1
        elif kind is Kind.TRANSIENT:
            tally.transient[class_of(event.code)] += 1
            if event.wire:
                tally.wire.add(event.wire)
        elif kind is Kind.PERMANENT:
            tally.permanent[class_of(event.code)] += 1
            tally.delay.add(event.queued)
            if event.wire:
                tally.wire.add(event.wire)
        elif kind is Kind.ROUTE:
            tally.route[event.phase if event.phase in _NEWS else OTHER] += 1
        elif kind is Kind.TOKEN and event.phase == GONE:
            tally.tokens_gone += 1


def _is_reply(code: str) -> bool:
    return len(code) == 3 and code.isascii() and code.isdigit()


def class_of(code: str) -> str:
    """``4xx`` of ``410``; OTHER for what is no code of three digits."""
    return f"{code[0]}xx" if _is_reply(code) else OTHER
