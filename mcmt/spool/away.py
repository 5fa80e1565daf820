"""What is out, and how far each domain's pulls have come. In memory only.

A cursor says: everything of this domain up to here is out, finished, or known to have come back. It only
saves pulls from walking what they would not take; what decides is the set of what is out. A delivery
that comes back from behind a cursor is remembered by key, so that the next pull finds it at once and the
cursor need not be lowered.

Used by one thread at a time: by the reader's while pulls are under way, else by the event loop. But the event loop may
look for a whole queue at any time, and use it while no pull of its domain or of all of them is under way (pulls.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

DEFERRED_SHARE = 4
"""Retries must not wait until nothing new comes: one in so many of what is pulled is one, when so many are due."""
MAX_RETURNED = 10_000
"""Deliveries of a domain remembered by key; with more of them its cursors are lowered instead."""
MAX_DOMAINS = 10_000
"""Domains whose cursors are remembered; those not asked for longest are forgotten, and their next pull walks again."""
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


class DomainQueue:
    """How far the pulls of one domain have come."""

    __slots__ = ("credit", "deferred", "fresh", "returned", "whole")

    def __init__(self) -> None:
        self.fresh: tuple[int, int] = (0, 0)
        """(0, row): of those never tried, all up to this row."""
        self.deferred: tuple[int, int] = (0, _LAST_ROW)
        """(due, row): of those tried before, all up to this due time and row."""
        self.credit = 0
        """What small pulls left of the share of those tried before."""
        self.returned: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        """(due, row), two heaps, never tried and tried: came back from behind a cursor. A hint: the row decides."""
        self.whole = False
        """All never tried that the listeners were told of are behind the cursor: what comes may go past the disk."""

    def share(self, limit: int) -> int:
        """How many of a pull of *limit* are for those tried before, when so many are due: over many small pulls too."""
        share, self.credit = divmod(self.credit + limit, DEFERRED_SHARE)
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


class Ledger:
    """All that is out, and every domain's queue."""

    def __init__(self) -> None:
        self.out: dict[int, Away] = {}
        self._queues: OrderedDict[str, DomainQueue] = OrderedDict()

    def queue(self, domain: str) -> DomainQueue:
        """How far the pulls of *domain* have come."""
        queue = self._queues.get(domain)
        if queue is None:
            queue = self._queues[domain] = DomainQueue()
            if len(self._queues) > MAX_DOMAINS:
                self._queues.popitem(last=False)
        self._queues.move_to_end(domain)
        return queue

    def whole_queue(self, domain: str) -> DomainQueue | None:
        """The queue of *domain*, where nothing that was never tried waits before what comes now."""
        queue = self._queues.get(domain)
        return queue if queue is not None and queue.whole and not queue.returned[0] else None

    def found_end(self, domain: str, row: int) -> None:
        """A pull found nothing of *domain* past *row* that was never tried, and nothing has come into it since."""
        if (queue := self._queues.get(domain)) is not None:
            queue.whole = queue.fresh[1] >= row

    def left(self, domain: str) -> None:
        """Deliveries have come into *domain* past its cursor."""
        if (queue := self._queues.get(domain)) is not None:
            queue.whole = False

    def came(self, domain: str, due: int, row: int) -> None:
        """A delivery has come into *domain* that is due at a time of its own: pulls may have come past it."""
        if (queue := self._queues.get(domain)) is not None:
            queue.come_back(due, row)

    def come_back(self, rows: Iterable[tuple[int, int]]) -> None:
        """Deliveries are not out any more: (row, due time), or GONE or AS_IT_WAS."""
        for row, due in rows:
            away = self.out.pop(row, None)
            if away is not None and due != GONE and (queue := self._queues.get(away.domain)) is not None:
                queue.come_back(away.due if due == AS_IT_WAS else due, row)
