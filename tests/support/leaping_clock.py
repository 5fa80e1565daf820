"""The system's clock, which can be moved on by minutes in an instant; between leaps everything runs in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcmt.clock import SystemClock


class LeapingTimer:
    """A timer that a leap brings nearer."""

    def __init__(self, clock: LeapingClock, due: float, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._due = due
        self._callback = callback
        self.arm()

    def arm(self) -> None:
        delay = max(0.0, self._due - self._clock.monotonic())
        self._handle = asyncio.get_running_loop().call_later(delay, self._ring)

    def cancel(self) -> None:
        self._handle.cancel()
        self._clock.timers.discard(self)

    def move(self) -> None:
        self._handle.cancel()
        self.arm()

    def _ring(self) -> None:
        self._clock.timers.discard(self)
        self._callback()


class LeapingClock(SystemClock):
    """``leap`` moves wall and monotonic time, as if the seconds had passed; ``jump`` sets the wall alone."""

    def __init__(self) -> None:
        self._leapt = 0.0
        self._jumped = 0.0
        self._leaps: list[tuple[float, float]] = []
        self.timers: set[LeapingTimer] = set()

    def time(self) -> float:
        return super().time() + self._leapt + self._jumped

    def true_time(self) -> float:
        """The time, had nobody set the clock."""
        return self.time() - self._jumped

    def monotonic(self) -> float:
        return super().monotonic() + self._leapt

    def call_later(self, delay: float, callback: Callable[[], None]) -> LeapingTimer:
        timer = LeapingTimer(self, self.monotonic() + delay, callback)
        self.timers.add(timer)
        return timer

    async def leap(self, seconds: float, step: float = 5.0) -> None:
        """Let *seconds* pass, a *step* at a time, so that what each sets going happens before the next."""
        while seconds > 0:
            self._leaps.append((self.time(), min(step, seconds)))
            self._leapt += min(step, seconds)
            seconds -= step
            for timer in tuple(self.timers):
                timer.move()
            await asyncio.sleep(0.01)

    def lived(self, since: float, until: float) -> float:
        """Seconds that really passed between two times on this clock's wall."""
        return until - since - sum(seconds for at, seconds in self._leaps if since <= at < until)

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as an operator or NTP does."""
        if seconds > 0:
            self._leaps.append((self.time(), seconds))
        self._jumped += seconds
