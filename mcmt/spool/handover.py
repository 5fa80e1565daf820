"""What a commit brought, handed over in memory: what nobody waits before need not be read back from the disk.

A domain's queue may take deliveries that were just accepted as they are, marked as out, when the ledger knows that no
other of that domain and priority lies in the spool untried (away.py, ``whole``) and no pull is under way that could see
them too. What is not taken, and what comes while it may not be, is simply due in the spool: from then on deliveries of
the kind come by pulls again, in order, until a pull has found the end.

Measured in one process, 100 tasks accepting messages with 100 us of other work for each, a channel that answers within
a millisecond: 1,000 messages took 192 ms of CPU when each was read back (19 of them in the pull thread), 166 (2) since.

Lives on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mcmt.message.event import TRACKED
from mcmt.message.model import Delivery, Message, Sender
from mcmt.message.priority import BULK
from mcmt.spool.away import Away, Lane, Ledger
from mcmt.spool.jobs import Accept
from mcmt.spool.port import Arrived
from mcmt.spool.pulls import Pulls
from mcmt.spool.rows import first_due

Listener = Callable[[Mapping[str, Arrived]], None]


class Handover:
    """Tells the listeners what has come, and the ledger what stayed."""

    def __init__(self, ledger: Ledger, pulls: Pulls) -> None:
        self._ledger = ledger
        self._pulls = pulls
        self.listeners: list[Listener] = []

    def tell(self, accepted: Sequence[Accept]) -> None:
        """A commit brought these, in the order of their rows."""
        arrived: dict[str, _Arrivals] = {}
        for job in accepted:
            for row, domain, by in job.superseded:
                self._arrivals(arrived, domain).supersede(row, by)
        for job in accepted:
            for (domain, priority), places in job.places.items():
                self._arrivals(arrived, domain).add(job, places, priority)
            for place in job.later:
                delivery = job.deliveries[place]
                self._pulls.came(delivery.domain, delivery.priority, first_due(delivery), job.row + place)
                self._arrivals(arrived, delivery.domain).add_later(delivery.due)
        try:
            for listener in self.listeners:
                listener(arrived)
        finally:
            for domain, one in arrived.items():
                for priority in one.close():
                    self._pulls.left(domain, priority)

    def _arrivals(self, arrived: dict[str, _Arrivals], domain: str) -> _Arrivals:
        one = arrived.get(domain)
        if one is None:
            one = arrived[domain] = _Arrivals(domain, self._ledger, closed=self._pulls.reads(domain))
        return one


class _Arrivals:
    """``mcmt.spool.port.Arrived``."""

    __slots__ = ("_closed", "_domain", "_kinds", "_ledger", "next_due", "superseded")

    def __init__(self, domain: str, ledger: Ledger, *, closed: bool) -> None:
        self._domain = domain
        self._ledger = ledger
        self._closed = closed
        self._kinds: list[_OfOneKind] = []
        """The most urgent first."""
        self.next_due: float | None = None
        self.superseded: dict[int, str] = {}

    @property
    def rest(self) -> int:
        """See the port."""
        return sum([kind.rest for kind in self._kinds])

    @property
    def highest(self) -> int | None:
        """See the port."""
        return next((kind.priority for kind in self._kinds if kind.rest), None)

    def add_later(self, due: float) -> None:
        """A delivery of the domain came that is due at *due*."""
        self.next_due = due if self.next_due is None else min(self.next_due, due)

    def supersede(self, row: int, by: str) -> None:
        """A delivery of the domain is replaced. It may be one of these: none is taken, a pull sees which are."""
        self.superseded[row] = by
        self._closed = True

    def add(self, job: Accept, places: Sequence[int], priority: int) -> None:
        """These deliveries of a message are of the domain."""
        for kind in self._kinds:
            if kind.priority == priority:
                kind.add(job, places)
                return
        lane = None if self._closed else self._ledger.whole_lane(self._domain, priority)
        kind = _OfOneKind(self._domain, priority, lane, self._ledger.out)
        kind.add(job, places)
        self._kinds.append(kind)
        self._kinds.sort(key=lambda one: -one.priority)

    def close(self) -> list[int]:
        """Nothing can be taken any more; the priorities of which something is left."""
        return [kind.priority for kind in self._kinds if kind.close()]

    def take(self, limit: int, max_bytes: int, lowest: int = BULK) -> Sequence[Delivery]:
        """See the port."""
        kinds = self._kinds
        if len(kinds) == 1:
            return kinds[0].take(limit, max_bytes) if kinds[0].priority >= lowest else ()
        taken: list[Delivery] = []
        for kind in kinds:
            if kind.priority >= lowest and len(taken) < limit:
                some = kind.take(limit - len(taken), max_bytes)
                taken += some
                max_bytes -= sum({id(one.part): len(one.part.content) for one in some}.values())
                if max_bytes <= 0:
                    break
        return taken


class _OfOneKind:
    """What a commit brought of one domain and priority."""

    __slots__ = ("_domain", "_jobs", "_lane", "_out", "_place", "priority", "rest")

    def __init__(self, domain: str, priority: int, lane: Lane | None, out: dict[int, Away]) -> None:
        self.priority = priority
        self._domain = domain
        self._lane = lane
        """None: they may not be taken."""
        self._out = out
        self._jobs: list[tuple[Accept, Sequence[int]]] = []
        self._place = 0
        """Where the first of the jobs goes on."""
        self.rest = 0

    def add(self, job: Accept, places: Sequence[int]) -> None:
        """These deliveries of a message are of the kind."""
        self._jobs.append((job, places))
        self.rest += len(places)

    def close(self) -> bool:
        """Nothing can be taken any more; whether anything is left."""
        self._lane = None
        return self.rest > 0

    def take(self, limit: int, max_bytes: int) -> list[Delivery]:
        """See the port."""
        lane, out, domain, priority = self._lane, self._out, self._domain, self.priority
        taken: list[Delivery] = []
        if lane is None:
            return taken
        known = lane.fresh[1]
        last = known
        size = 0
        while self._jobs and len(taken) < limit:
            job, places = self._jobs[0]
            message, first = job.message, job.row
            sender = _sender(message)
            counted: set[int] = set()
            while self._place < len(places) and len(taken) < limit:
                place = places[self._place]
                new = job.deliveries[place]
                part = message.parts[new.part]
                row = first + place
                # A pull that read before this was told may have come past it: it is out, or finished already.
                if row > known and row not in out:
                    if new.part not in counted:
                        if taken and size + len(part.content) > max_bytes:
                            lane.fresh = (0, last)
                            return taken
                        size += len(part.content)
                        counted.add(new.part)
                    about = new.number, domain, new.recipient, new.token, 0, new.expires
                    taken.append(Delivery(row, *about, sender, part, priority, new.asked))
                    out[row] = Away(domain, 0, job.key, len(job.deliveries), len(message.parts), priority)
                last = max(last, row)
                self._place += 1
                self.rest -= 1
            if self._place == len(places):
                del self._jobs[0]
                self._place = 0
        lane.fresh = (0, last)
        return taken


def _sender(message: Message) -> Sender:
    envelope = message.envelope
    protocol = envelope.protocol if envelope.protocol in TRACKED else ""
    return Sender(
        message.batch_id,
        message.received,
        envelope.reverse_path,
        message.context,
        envelope.peer,
        protocol,
        envelope.ret,
        envelope.envid,
    )
