"""When the loggers remember how far they have come, and when rows go.

Not after each burst: SAVE_DELAY after the first line that is not remembered yet, after SAVE_LINES, or when somebody
waits for it. Then every file that was written is brought to disk, and the table that events change, and what the
loggers remember is saved in one transaction; after that each shard can let go of the rows that all of them remember.
So a crash leaves at most so many lines to be compared, and the disk waits for us some ten times a second, however many
bursts there are.

Rules: nothing more is written while saving is due and fails, so that what is not remembered stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from mcmt.clock import Clock, Timer
from mcmt.eventlog.outbox import EventTable, LogMemory
from mcmt.eventlog.progress import Progress
from mcmt.eventlog.rotation import InThread

SAVE_DELAY = 0.1
"""Seconds that a line may stand in a file before that is remembered."""
SAVE_LINES = 20_000
"""Lines that may, over all files."""


class Saving:
    """Of all loggers. *ring* calls for another round of the writer, *wake* for one that reads anew, and *run* runs a
    call in its thread."""

    def __init__(
        self,
        memory: LogMemory,
        loggers: Sequence[Progress],
        clock: Clock,
        ring: Callable[[], None],
        wake: Callable[[], None],
        run: InThread,
        table: EventTable | None = None,
    ) -> None:
        self._memory = memory
        self._loggers = loggers
        self._clock = clock
        self._ring = ring
        self._wake = wake
        self._run = run
        self._table = table
        self._lines = 0
        self._overdue = False
        self._timer: Timer | None = None

    @property
    def due(self) -> bool:
        """It is time; nothing more is to be written before."""
        if self._overdue or self._lines >= SAVE_LINES:
            return True
        return any(not progress.remembered and not progress.failing for progress in self._loggers)

    def wrote(self, lines: int) -> None:
        """So many more lines are not remembered, of rows that are not either."""
        self._lines += lines
        if self._timer is None:
            self._timer = self._clock.call_later(SAVE_DELAY, self._come)

    async def save(self) -> None:
        """Remember everything that is written. A file that cannot be brought to disk has gone back to what was.

        Raises SpoolError: then nothing was remembered.
        """
        changed = [progress for progress in self._loggers if progress.changed]
        if changed:
            safe = []
            for progress, error in await self._run(partial(_sync, changed)):
                if error is None:
                    safe.append(progress)
                else:
                    progress.failed(error, self._wake)
            if self._table is not None:
                await self._run(self._table.save)
            states = [progress.state() for progress in safe]
            await self._run(partial(self._memory.save, states))
            for progress, state in zip(safe, states, strict=True):
                progress.keep(state)
        self._lines = 0
        self._overdue = False
        self.cancel()

    def cancel(self) -> None:
        """No more of it by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _come(self) -> None:
        self._timer = None
        self._overdue = True
        self._ring()


def _sync(loggers: Sequence[Progress]) -> list[tuple[Progress, OSError | None]]:
    done: list[tuple[Progress, OSError | None]] = []
    for progress in loggers:
        try:
            progress.file.sync()
        except OSError as error:
            done.append((progress, error))
        else:
            done.append((progress, None))
    return done
