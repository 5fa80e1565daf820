"""Wall time as expiry sees it: a jump forward is not believed until it has held.

A machine whose clock is set a day ahead for a minute must not expire its spool (invariant 8). Time
that goes back, or drifts, is believed at once: then deliveries only live longer.
"""

from __future__ import annotations

from mcmt.clock import Clock

TOLERANCE = 60.0
"""Seconds that the wall clock may gain on the monotonic one before it counts as a jump."""
HOLD = 600.0
"""Seconds for which a jump must have held before it is believed."""


class SteadyTime:
    """Seconds since the epoch, a forward jump left out until it has held for ``HOLD``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.time() - clock.monotonic()
        self._jumped_at: float | None = None
        self._jumped_to = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        monotonic = self._clock.monotonic()
        offset = self._clock.time() - monotonic
        if offset - self._offset <= TOLERANCE:
            self._offset, self._jumped_at = offset, None
        elif self._jumped_at is None or abs(offset - self._jumped_to) > TOLERANCE:
            self._jumped_at, self._jumped_to = monotonic, offset
        elif monotonic - self._jumped_at >= HOLD:
            self._offset, self._jumped_at = offset, None
        return monotonic + self._offset
