"""Time as an argument: nothing else in mcmt asks the system what time it is.

``SystemClock`` is the only implementation in the product; tests bring one that they move by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due later and can be taken back."""

    def cancel(self) -> None:
        """Take the call back; harmless when it has been made."""


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for what is measured."""

    def time(self) -> float:
        """Seconds since the epoch, UTC. May jump."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start. Never jumps."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call *callback* on the event loop in *delay* seconds."""


class SystemClock:
    """The machine's clocks and the running event loop's timers."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call *callback* on the running event loop in *delay* seconds."""
        return asyncio.get_running_loop().call_later(delay, callback)
