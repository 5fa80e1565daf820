"""How far one logger has come: which rows of the outbox are lines on disk, and where those lines end.

Loggers advance alone, so that one whose disk is full holds nobody up; rows go only when all have them.
Until then a logger that is ahead keeps a mark for every burst: the file's position after it. What the
outbox remembers is always the positions of all loggers after one and the same row.

Rules: state alone; no I/O but through its LogFile, and those calls are made in the writer's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from mcmt.clock import Clock, Timer
from mcmt.eventlog.file import LogFile
from mcmt.eventlog.loggers import EventLogger
from mcmt.message.event import Event, LogPosition, OutboxRow

_FIRST_DELAY = 1.0
_LAST_DELAY = 30.0
_REMINDER = 60.0
_MARKS = 10_000
"""How many bursts a logger may be ahead of the slowest one."""


class Progress:
    """One logger, its file, and its place in the outbox."""

    def __init__(self, logger: EventLogger, clock: Clock, tell: Callable[[str], None]) -> None:
        self.logger = logger
        self.file = LogFile(logger.path, logger.mode, tell)
        self.remembered = False
        """The outbox knows the file's position; until then nothing is written to it."""
        self.reopening = False
        """The file may have been renamed: look, as soon as nothing written to it is unacknowledged."""
        self._clock = clock
        self._tell = tell
        self._marks: deque[tuple[int, LogPosition]] = deque()
        self._timer: Timer | None = None
        self._delay = 0.0
        self._told = False
        self._told_at = float("-inf")

    @property
    def cursor(self) -> int:
        """Sequence of the last row whose lines are on disk."""
        return self._marks[-1][0]

    @property
    def ahead(self) -> bool:
        """It has written rows that the outbox still keeps."""
        return len(self._marks) > 1

    @property
    def failing(self) -> bool:
        """The last attempt failed and the next one is not due."""
        return self._timer is not None

    @property
    def ready(self) -> bool:
        """It may be written to now."""
        held = self.reopening and self.ahead
        return self.remembered and not self.failing and not held and len(self._marks) < _MARKS

    def restart(self, sequence: int, remembered: bool = False) -> None:
        """The file is a new one, or ends elsewhere: go on after row *sequence*, the last one acknowledged."""
        self._marks = deque([(sequence, self._position())])
        self.remembered = remembered

    def advance(self, sequence: int, lines: int) -> None:
        """So many *lines* of the rows up to *sequence* are on disk now."""
        self._marks.append((sequence, self._position()))
        if lines:
            self._delay = 0.0
            if self._told:
                self._told = False
                self._tell(f"{self.file.path}: is written again")

    def settled(self) -> None:
        """The file's end was put in order, with no row to it."""
        self._marks[-1] = self.cursor, self._position()
        self.remembered = self.ahead

    def acknowledged(self, sequence: int) -> None:
        """The outbox let go of the rows up to *sequence*, and knows the position there."""
        while self._marks[0][0] < sequence:
            self._marks.popleft()
        self.remembered = True

    def position_at(self, sequence: int) -> LogPosition | None:
        """Where the lines of the rows up to *sequence* end, if a burst ended there."""
        for marked, position in self._marks:
            if marked >= sequence:
                return position if marked == sequence else None
        return None

    def last_mark(self, after: int, through: int) -> int | None:
        """The last row past *after*, up to *through*, at which a burst ended."""
        last = None
        for marked, _ in self._marks:
            if marked > through:
                break
            if marked > after:
                last = marked
        return last

    def failed(self, error: OSError, due: Callable[[], None]) -> None:
        """The file could not be written: say so at most once a minute, and try again in a while; then call *due*."""
        now = self._clock.monotonic()
        if now - self._told_at >= _REMINDER:
            self._told, self._told_at = True, now
            self._tell(
                f"{self.file.path}: cannot be written: {error.strerror or error}; "
                "its lines stay in the spool and are written when it can be"
            )
        self._delay = min(self._delay * 2, _LAST_DELAY) if self._delay else _FIRST_DELAY

        def resume() -> None:
            self._timer = None
            due()

        self._timer = self._clock.call_later(self._delay, resume)

    def resume(self) -> None:
        """Do not wait for the next attempt."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def write(self, rows: Sequence[OutboxRow]) -> Written:
        """Render and append the lines of *rows*, which follow the cursor. In the writer's thread."""
        render = self.logger.render
        lines: list[str] = []
        events: list[Event] = []
        for row in rows:
            for event in row.events:
                line = render(event)
                if line is not None:
                    lines.append(line)
                    events.append(event)
        if not lines:
            return Written(self, lines, events)
        lines.append("")
        # Escaping leaves nothing that cannot be encoded; a handler, for even a bug there must not stop the log.
        data = "\n".join(lines).encode(errors="backslashreplace")
        lines.pop()
        try:
            return Written(self, lines, events, moved=not self.file.append(data))
        except OSError as error:
            return Written(self, lines, events, error=error)

    def _position(self) -> LogPosition:
        return LogPosition(self.logger.name, self.file.inode, self.file.offset)


class Written:
    """What became of one logger's share of a burst."""

    __slots__ = ("error", "events", "lines", "moved", "progress")

    def __init__(
        self,
        progress: Progress,
        lines: Sequence[str],
        events: Sequence[Event],
        moved: bool = False,
        error: OSError | None = None,
    ) -> None:
        self.progress = progress
        self.lines = lines
        self.events = events
        """The events of the lines, in step."""
        self.moved = moved
        """Nothing was written: the file's position is a new one."""
        self.error = error
        """Nothing was written, for this reason."""
