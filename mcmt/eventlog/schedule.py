"""When a log's file is full or too old.

Too old means: begun before the last multiple of ``every`` in UTC, counted from 1970-01-01 00:00, so that 1d is midnight
and 1h the full hour. A file is as old as its first line, and begins when the one before it ended; both are found in the
folder, so that the age is known over restarts. A clock that was set back makes a file young again, never older.

Rules: ``Schedule`` is state alone, asked before every burst, and must cost little; ``began`` reads files and blocks.
"""

from __future__ import annotations

import re

from mcmt.config.settings import RotateSettings
from mcmt.eventlog.file import LogFile
from mcmt.eventlog.names import UNFINISHED, rotated

_NEVER = float("inf")
_FIRST_LINE = 64
_TIME = re.compile(rb'(?:\{"type":"[A-Z]","time":)?(\d{9,11})(?!\d)')
"""The time at the beginning of a line, as all formats have it by default."""


class Schedule:
    """Of one logger. Times are seconds since the epoch."""

    def __init__(self, settings: RotateSettings | None) -> None:
        self.size: float = (settings and settings.size) or _NEVER
        self.every: float = (settings and settings.every) or _NEVER
        self.inode = 0
        """Of the file that the next two are about."""
        self.began = 0.0
        self.due_at = _NEVER
        """When the file will be too old."""

    @property
    def timed(self) -> bool:
        """The file can be too old."""
        return self.every != _NEVER

    def begin(self, inode: int, began: float) -> None:
        """The file that is written to is this one, begun then."""
        self.inode = inode
        self.began = began
        # An odd interval can make the quotient a hair too small, and the multiple the same one again.
        multiple = began // self.every + 1 if self.timed else _NEVER
        while multiple * self.every <= began:
            multiple += 1
        self.due_at = multiple * self.every if self.timed else _NEVER

    def knows(self, file: LogFile, now: float) -> bool:
        """It is the file that it was, and not begun in the future."""
        return self.inode == file.inode and self.began <= now

    def due(self, file: LogFile, now: float) -> bool:
        """The file is full or too old. An empty one is neither."""
        return file.offset > 0 and (file.offset >= self.size or now >= self.due_at)


def began(file: LogFile, now: float) -> float:
    """When the file that is written to was begun, as well as can be told; not after *now*. Raises OSError."""
    if not file.offset:
        return now
    ended = [old.ended for old in rotated(file.path) if old.inode != file.inode and old.suffix != UNFINISHED]
    first = _TIME.match(file.head(_FIRST_LINE))
    known = [*ended[-1:], *([int(first[1])] if first else [])]
    return min(now, max(known) if known else file.path.stat().st_mtime)
