"""How often the operator is told of a trouble that every message meets: at once, and then once in a while, counted."""

from __future__ import annotations

import math

from mcmt.clock import Clock
from mcmt.intake import limits


class Reminder:
    """Counts one kind of trouble."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._untold = 0
        self._told = -math.inf

    def count(self, times: int = 1) -> int:
        """Note the trouble. Returns how often it was met since the last word, if one is due now; else 0."""
        self._untold += times
        now = self._clock.monotonic()
        if now - self._told < limits.REMINDER:
            return 0
        untold, self._untold, self._told = self._untold, 0, now
        return untold
