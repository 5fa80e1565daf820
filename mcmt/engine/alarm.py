"""One timer for one owner: whoever asks to be looked at again, the earliest time wins."""

from __future__ import annotations

from collections.abc import Callable

from mcmt.clock import Clock, Timer


class Alarm:
    """Calls *ring* once, at the earliest of the times asked for; then it can be set anew."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._at = 0.0

    def within(self, delay: float) -> None:
        """Ring in *delay* seconds, unless it rings earlier anyway."""
        at = self._clock.monotonic() + delay
        if self._timer is not None:
            if self._at <= at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = self._clock.call_later(delay, self._fire)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._ring()
