"""A clock that stands still until it is moved."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class ManualTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Wall and monotonic time move together by ``advance``; ``jump`` sets the wall alone."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._wall = wall
        self._monotonic = 1000.0
        self._timers: list[tuple[float, int, ManualTimer]] = []
        self._order = count()

    def time(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def call_later(self, delay: float, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (self._monotonic + delay, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move on, and call what became due in its order."""
        end = self._monotonic + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self._wall += due - self._monotonic
            self._monotonic = due
            if timer.callback is not None:
                timer.callback()
        self._wall += end - self._monotonic
        self._monotonic = end

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as an operator or NTP does."""
        self._wall += seconds
