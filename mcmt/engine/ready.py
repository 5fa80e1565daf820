"""What a queue has ready for its connections: a line for each priority, each in order, the most urgent first.

Rules: what is urgent goes before what is not, whichever came first; but while something waits in a lower line, one in
LOWER_SHARE of what is sent is of it, so that it does not wait for ever. What was offered and not taken stands where it
stood, and has not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from mcmt.message.model import Delivery
from mcmt.message.priority import BULK, CLASSES, HIGH

LOWER_SHARE: Final = 10
"""While more urgent ones are sent, one in so many is of a lower class that waits."""


class Ready:
    """The lines of one queue."""

    def __init__(self) -> None:
        self._lines: tuple[deque[Delivery], ...] = tuple([deque() for _ in CLASSES])
        self._ahead = [0] * len(CLASSES)
        """How many went ahead of each line since one of it went, LOWER_SHARE at most."""
        self._woven = False
        """What was taken last was of several lines."""

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    def __iter__(self) -> Iterator[Delivery]:
        return chain(*self._lines)

    def count(self, lowest: int) -> int:
        """How many are of priority *lowest* or above."""
        return sum(map(len, self._lines[: _place(lowest) + 1]))

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """These are ready, behind the others of their kind."""
        kinds = {one.priority for one in deliveries}
        for kind in kinds:
            some = deliveries if len(kinds) == 1 else [one for one in deliveries if one.priority == kind]
            self._lines[_place(kind)].extend(some)

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """These are ready again, before the others of their kind."""
        kinds = {one.priority for one in deliveries}
        for kind in kinds:
            some = deliveries if len(kinds) == 1 else [one for one in deliveries if one.priority == kind]
            self._lines[_place(kind)].extendleft(reversed(some))

    def take(self, limit: int, lowest: int = BULK) -> list[Delivery]:
        """The first of them, *limit* at most and of priority *lowest* or above, to be offered; then ``sent`` tells what
        came of it."""
        if lowest == HIGH:
            self._woven = False  # what is left out does not wait for its turn
            return _first(self._lines[0], limit)
        waiting = [line for line in self._lines if line]
        self._woven = len(waiting) > 1
        return self._weave(limit) if self._woven else _first(waiting[0], limit) if waiting else []

    def sent(self, offered: Sequence[Delivery], taken: int) -> None:
        """Of what was offered so many were taken, from the front; the others are ready again."""
        if taken < len(offered):
            self.put_back(offered[taken:])
        if self._woven:
            for one in offered[:taken]:
                _count(self._ahead, _place(one.priority))

    def remove(self, rows: Container[int]) -> list[Delivery]:
        """Take out what is of *rows*."""
        removed = [one for one in self if one.row in rows]
        if removed:
            everything = list(self)
            self.clear()
            self.extend([one for one in everything if one.row not in rows])
        return removed

    def give_up(self, limit: int, above: int) -> list[Delivery]:
        """Take out *limit* of those that would go last, of priorities below *above*."""
        given: list[Delivery] = []
        for line in reversed(self._lines[_place(above) + 1 :]):
            while line and len(given) < limit:
                given.append(line.pop())
        return given

    def clear(self) -> None:
        """Nothing is ready."""
        for line in self._lines:
            line.clear()

    def _weave(self, limit: int) -> list[Delivery]:
        lines = self._lines
        for place, line in enumerate(lines):
            if not line:
                self._ahead[place] = 0  # whoever comes into it now has not waited
        ahead = list(self._ahead)
        batch: list[Delivery] = []
        while len(batch) < limit:
            waiting = [place for place, line in enumerate(lines) if line]
            if len(waiting) < 2:
                return batch + _first(lines[waiting[0]], limit - len(batch)) if waiting else batch
            place = next((one for one in waiting[1:] if ahead[one] >= LOWER_SHARE - 1), waiting[0])
            _count(ahead, place)
            batch.append(lines[place].popleft())
        return batch


def _place(priority: int) -> int:
    return HIGH - priority


def _count(ahead: list[int], place: int) -> None:
    """One of the line at *place* has gone."""
    ahead[place] = 0
    for lower in range(place + 1, len(ahead)):
        ahead[lower] = min(ahead[lower] + 1, LOWER_SHARE)


def _first(line: deque[Delivery], limit: int) -> list[Delivery]:
    batch = list(islice(line, limit))
    if len(batch) == len(line):
        line.clear()
    else:
        for _ in batch:
            line.popleft()
    return batch
