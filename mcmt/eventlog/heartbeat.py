"""Heartbeats: the sign of life that readers of the logs wait for (``ts@M``).

A heartbeat is a line of no row: it is written with what comes next or alone, brought to disk and remembered when
something else is, and a crash may take the last one. A logger that cannot be written owes one, the first, and gets no
second: what a full disk holds up is one heartbeat a logger, not one a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcmt.clock import Clock, Timer
from mcmt.eventlog.progress import Progress
from mcmt.message.event import Event, Kind


class Heartbeats:
    """One timer a logger. *due* is called when there is a heartbeat to write."""

    def __init__(self, loggers: Sequence[Progress], clock: Clock, due: Callable[[], None]) -> None:
        self._loggers = loggers
        self._clock = clock
        self._due = due
        self._timers: dict[Progress, Timer] = {}

    def start(self) -> None:
        """Begin; the first heartbeats come after one interval."""
        for progress in self._loggers:
            if progress.logger.heartbeat > 0:
                self._arm(progress)

    def reload(self) -> None:
        """The loggers are others now."""
        for progress in self._timers.keys() - set(self._loggers):
            self._timers.pop(progress).cancel()
        for progress in self._loggers:
            if progress.logger.heartbeat > 0 and progress not in self._timers:
                self._arm(progress)

    def stop(self) -> None:
        """No more heartbeats."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _arm(self, progress: Progress) -> None:
        def beat() -> None:
            if progress.beat is None:
                progress.beat = Event(kind=Kind.HEARTBEAT, time=self._clock.time(), channel=progress.logger.name)
            self._arm(progress)
            self._due()

        self._timers[progress] = self._clock.call_later(progress.logger.heartbeat, beat)
