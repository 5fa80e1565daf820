"""Heartbeats: the sign of life that readers of the logs wait for (``ts@M``).

A heartbeat is an event through the outbox like any other, so that the positions of the files stay exact.
A logger that has written nothing since its last heartbeat still owes that one, and gets no second: while
a disk is full the outbox holds one heartbeat a logger, not one a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcmt.clock import Clock, Timer
from mcmt.errors import SpoolError
from mcmt.eventlog.outbox import Outbox
from mcmt.eventlog.progress import Progress
from mcmt.message.event import Event, Kind


class Heartbeats:
    """One timer a logger. *due* is called when there are heartbeats to record."""

    def __init__(self, loggers: Sequence[Progress], outbox: Outbox, clock: Clock, due: Callable[[], None]) -> None:
        self._loggers = loggers
        self._outbox = outbox
        self._clock = clock
        self._due = due
        self._timers: dict[Progress, Timer] = {}
        self._pending: set[Progress] = set()
        self._owed_at: dict[Progress, int] = {}

    def start(self) -> None:
        """Begin; the first heartbeats come after one interval."""
        for progress in self._loggers:
            if progress.logger.heartbeat > 0:
                self._arm(progress)

    def stop(self) -> None:
        """No more heartbeats."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._pending.clear()

    async def record(self, trip: Callable[[Exception], None]) -> None:
        """Put the pending heartbeats into the outbox; *trip* is told when it refuses, and they are left out."""
        if not self._pending:
            return
        pending, self._pending = self._pending, set()
        alive = [
            progress
            for progress in self._loggers
            if progress in pending and self._owed_at.get(progress) != progress.cursor
        ]
        if not alive:
            return
        now = self._clock.time()
        beats = [Event(kind=Kind.HEARTBEAT, time=now, channel=progress.logger.name) for progress in alive]
        try:
            await self._outbox.record(beats)
        except SpoolError as error:
            trip(error)
            return
        for progress in alive:
            self._owed_at[progress] = progress.cursor

    def _arm(self, progress: Progress) -> None:
        def beat() -> None:
            self._pending.add(progress)
            self._arm(progress)
            self._due()

        self._timers[progress] = self._clock.call_later(progress.logger.heartbeat, beat)
