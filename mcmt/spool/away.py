"""What is out, and how far each domain's pulls have come. In memory only.

A domain has a lane for each class of priority (mcmt/message/priority.py) that anything of it ever had, each with
cursors of its own; which these are the spool is asked once, and what comes later is told.

A cursor says: everything of this lane up to here is out, finished, or known to have come back. It only
saves pulls from walking what they would not take; what decides is the set of what is out. A delivery
that comes back from behind a cursor is remembered by key, so that the next pull finds it at once and the
cursor need not be lowered.

Used by one thread at a time: by the reader's while pulls are under way, else by the event loop. But the event loop may
look for a whole lane at any time, and use it while no pull of its domain or of all of them is under way (pulls.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from mcmt.message.priority import CLASSES, NORMAL

DEFERRED_SHARE = 4
"""Retries must not wait until nothing new comes: one in so many of what is pulled is one, when so many are due."""
LOWER_SHARE = 10
"""What is less urgent must not wait until nothing urgent comes: one in so many of what is pulled is of a lower class,
when so many are due."""
MAX_RETURNED = 10_000
"""Deliveries of a lane remembered by key; with more of them its cursors are lowered instead."""
MAX_DOMAINS = 10_000
"""Domains whose lanes are remembered; those not asked for longest are forgotten, and their next pull walks again."""
GONE = -1
"""In place of a due time: the delivery is finished."""
AS_IT_WAS = -2
"""In place of a due time: the one that it had when it went out."""
_LAST_ROW = 2**63 - 1


class Away(NamedTuple):
    """What settling a delivery that is out needs to know of it."""

    domain: str
    due: int
    """As it was when it went out, in microseconds; 0: never tried."""
    message: int
    deliveries: int
    """Of its message, when that was accepted."""
    parts: int
    priority: int = NORMAL


class Lane:
    """How far the pulls of one domain's deliveries of one priority have come."""

    __slots__ = ("credit", "deferred", "fresh", "lower_credit", "priority", "returned", "whole")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.fresh: tuple[int, int] = (0, 0)
        """(0, row): of those never tried, all up to this row."""
        self.deferred: tuple[int, int] = (0, _LAST_ROW)
        """(due, row): of those tried before, all up to this due time and row."""
        self.credit = 0
        """What small pulls left of the share of those tried before."""
        self.lower_credit = 0
        """What small pulls left of its share beside what is more urgent."""
        self.returned: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        """(due, row), two heaps, never tried and tried: came back from behind a cursor. A hint: the row decides."""
        self.whole = False
        """All never tried that the listeners were told of are behind the cursor: what comes may go past the disk."""

    def share(self, limit: int) -> int:
        """How many of a pull of *limit* are for those tried before, when so many are due: over many small pulls too."""
        share, self.credit = divmod(self.credit + limit, DEFERRED_SHARE)
        return min(share, limit)

    def lower_share(self, limit: int) -> int:
        """How many of a pull of *limit* are for this lane, whatever is due of more urgent ones."""
        share, self.lower_credit = divmod(self.lower_credit + limit, LOWER_SHARE)
        return min(share, limit)

    def come_back(self, due: int, row: int) -> None:
        """A delivery is not out any more."""
        if (due, row) <= (self.deferred if due else self.fresh):
            heap = self.returned[due > 0]
            heappush(heap, (due, row))
            if len(heap) > MAX_RETURNED:
                self._lower()

    def take_returned(self, through: int, limit: int) -> list[tuple[int, int]]:
        """Up to *limit* of those that came back and are due by *through*, earliest first; they are forgotten here.

        *through* is 0 for those never tried.
        """
        taken: list[tuple[int, int]] = []
        returned = self.returned[through > 0]
        while returned and len(taken) < limit and returned[0][0] <= through:
            taken.append(heappop(returned))
        return taken

    def _lower(self) -> None:
        fresh, deferred = self.returned
        if fresh:
            self.fresh = min(self.fresh, (0, fresh[0][1] - 1))
            self.whole = False
        if deferred:
            self.deferred = min(self.deferred, (deferred[0][0], deferred[0][1] - 1))
        self.returned = ([], [])


class Lanes:
    """The lanes of one domain."""

    __slots__ = ("_by_priority", "asked")

    def __init__(self) -> None:
        self._by_priority = {NORMAL: Lane(NORMAL)}
        self.asked = False
        """The spool was asked of which priorities it has any: one without a lane here has none."""

    def lane(self, priority: int) -> Lane:
        """The lane of *priority*, made where there was none: something may be in it."""
        lane = self._by_priority.get(priority)
        # Two threads may come here for the same one.
        return self._by_priority.setdefault(priority, Lane(priority)) if lane is None else lane

    def whole(self, priority: int) -> Lane | None:
        """The lane of *priority*, where nothing that was never tried waits in it before what comes now."""
        lane = self._by_priority.get(priority)
        if lane is None and self.asked:
            lane = self.lane(priority)
            lane.whole = True
        return lane if lane is not None and lane.whole and not lane.returned[0] else None

    def all(self, lowest: int) -> list[Lane]:
        """Those of priority *lowest* and above, the most urgent first."""
        return [lane for one in CLASSES if one >= lowest and (lane := self._by_priority.get(one)) is not None]


class Ledger:
    """All that is out, and every domain's lanes."""

    def __init__(self) -> None:
        self.out: dict[int, Away] = {}
        self._domains: OrderedDict[str, Lanes] = OrderedDict()

    def lanes(self, domain: str) -> Lanes:
        """How far the pulls of *domain* have come."""
        lanes = self._domains.get(domain)
        if lanes is None:
            lanes = self._domains[domain] = Lanes()
            if len(self._domains) > MAX_DOMAINS:
                self._domains.popitem(last=False)
        self._domains.move_to_end(domain)
        return lanes

    def whole_lane(self, domain: str, priority: int) -> Lane | None:
        """The lane, where nothing of it that was never tried waits before what comes now."""
        lanes = self._domains.get(domain)
        return None if lanes is None else lanes.whole(priority)

    def found_end(self, domain: str, priority: int, row: int) -> None:
        """A pull found nothing of a lane past *row* that was never tried, and nothing has come into it since."""
        if (lanes := self._domains.get(domain)) is not None:
            lane = lanes.lane(priority)
            lane.whole = lane.fresh[1] >= row

    def left(self, domain: str, priority: int) -> None:
        """Deliveries have come into a lane past its cursor."""
        if (lanes := self._domains.get(domain)) is not None:
            lanes.lane(priority).whole = False

    def came(self, domain: str, priority: int, due: int, row: int) -> None:
        """A delivery has come into a lane that is due at a time of its own: pulls may have come past it."""
        if (lanes := self._domains.get(domain)) is not None:
            lanes.lane(priority).come_back(due, row)

    def come_back(self, rows: Iterable[tuple[int, int]]) -> None:
        """Deliveries are not out any more: (row, due time), or GONE or AS_IT_WAS."""
        for row, due in rows:
            away = self.out.pop(row, None)
            if away is not None and due != GONE and (lanes := self._domains.get(away.domain)) is not None:
                lanes.lane(away.priority).come_back(away.due if due == AS_IT_WAS else due, row)
