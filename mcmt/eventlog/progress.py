"""How far one logger has come: which rows of each shard's outbox are lines in its file, and what it remembers of that.

Loggers advance alone, so that one whose disk is full holds nobody up; the rows of a shard go only when all loggers
remember them. What is written but not remembered yet may be lost: then the logger goes back to what it remembers, and
the rows are read again.

Rules: state alone; no I/O but through its LogFile, and those calls are made in the writer's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mcmt.clock import Clock, Timer
from mcmt.eventlog.file import LogFile
from mcmt.eventlog.loggers import EventLogger
from mcmt.eventlog.shard import Burst
from mcmt.eventlog.tail import Tail
from mcmt.message.event import Event, Remembered

_FIRST_DELAY = 1.0
_LAST_DELAY = 30.0
_REMINDER = 60.0


class Progress:
    """One logger, its file, and its place in every outbox."""

    def __init__(
        self, logger: EventLogger, clock: Clock, tell: Callable[[str], None], file: LogFile | None = None
    ) -> None:
        """*file*: where it is open already."""
        self.logger = logger
        self.file = file or LogFile(logger.path, logger.mode, tell)
        self.cursors: dict[str, int] = {}
        """By shard: the sequence of the last row whose lines are in the file."""
        self.saved: Remembered | None = None
        """What is remembered."""
        self.remembered = False
        """The end of the file was remembered once since it was opened; until then nothing is written to it."""
        self.reopening = False
        """The file may have been renamed: look, as soon as everything is remembered."""
        self.started = False
        """The shards that are there were read once, so the tail has what it can get for now."""
        self.beat: Event | None = None
        """A heartbeat to be written."""
        self._tail = Tail()
        self._expected: frozenset[str] = frozenset()
        self._unread: set[str] = set()
        self._clock = clock
        self._tell = tell
        self._timer: Timer | None = None
        self._delay = 0.0
        self._told = False
        self._told_at = float("-inf")

    @property
    def failing(self) -> bool:
        """The last attempt failed and the next one is not due."""
        return self._timer is not None

    @property
    def ready(self) -> bool:
        """It may be written to now."""
        return self.remembered and not self.failing

    @property
    def changed(self) -> bool:
        """What is to be remembered is not what is remembered."""
        saved = self.saved
        return (
            not self.remembered
            or saved is None
            or saved.offset != self.file.offset
            or saved.cursors != self.cursors
            or len(saved.tail) != self._tail.packed_size
        )

    @property
    def settled(self) -> bool:
        """No line of the file is left whose row may be read yet."""
        return not len(self._tail)

    def open(self, known: Remembered | None, shards: Collection[str]) -> None:
        """Open the file, and take in what stands past the *known* offset. In the writer's thread; raises OSError.

        *shards*: those that may own lines of the tail.
        """
        self.saved = known
        self._expected = frozenset(shards)
        self._go_back()
        logger = self.logger

        def take(line: bytes) -> None:
            if not logger.is_heartbeat(line):
                self._tail.add(line)

        self.remembered = self.file.open(known, take)
        self._settle()

    def renew(self) -> None:
        """The file is a new one, or ends elsewhere: that wants remembering first."""
        self.remembered = False

    def cursor(self, shard: str) -> int:
        """Sequence of the shard's last row whose lines are in the file."""
        return self.cursors.get(shard, 0)

    def saved_cursor(self, shard: str) -> int:
        """Sequence of the shard's last row that is remembered."""
        return self.saved.cursors.get(shard, 0) if self.saved else 0

    def state(self) -> Remembered:
        """What is to be remembered, once the file is on disk."""
        return Remembered(self.logger.name, self.file.inode, self.file.offset, dict(self.cursors), self._tail.pack())

    def keep(self, state: Remembered) -> None:
        """The state is remembered."""
        if self.file.safe < state.offset:
            self._delay = 0.0
            if self._told:
                self._told = False
                self._tell(f"{self.file.path}: is written again")
        self.saved = state
        self.file.safe = state.offset
        self.remembered = True

    def forget(self, shard: str) -> None:
        """The shard is no more."""
        self.cursors.pop(shard, None)
        self._expected -= {shard}
        self._unread.discard(shard)

    def advance(self, bursts: Sequence[Burst]) -> None:
        """The lines of these bursts are in the file now."""
        for burst in bursts:
            if self.cursor(burst.shard) >= burst.start:
                self.cursors[burst.shard] = max(self.cursor(burst.shard), burst.last)
                if burst.drained:
                    self._unread.discard(burst.shard)
        self._settle()

    def take_back(self) -> None:
        """Where the file lost what is not remembered, go back to what is."""
        if self.file.lost:
            self.file.lost = False
            self._go_back()
            saved = self.saved
            self.remembered = saved is not None and (saved.inode, saved.offset) == (self.file.inode, self.file.offset)

    def failed(self, error: OSError, due: Callable[[], None]) -> None:
        """The file could not be written: say so at most once a minute, and try again in a while; then call *due*."""
        now = self._clock.monotonic()
        if now - self._told_at >= _REMINDER:
            self._told, self._told_at = True, now
            self._tell(
                f"{self.file.path}: cannot be written: {error.strerror or error}; "
                "its lines stay in the spool and are written when it can be"
            )
        self.take_back()
        self.resume()
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

    def write(self, bursts: Sequence[Burst]) -> Written:
        """Render and append the lines of *bursts* that are past the cursors. In the writer's thread."""
        render = self.logger.render
        lines: list[str] = []
        events: list[Event] = []
        beat = self.beat
        if beat is not None and (line := render(beat)) is not None:
            lines.append(line)
            events.append(beat)
        for burst in bursts:
            cursor = self.cursor(burst.shard)
            if cursor < burst.start:
                continue
            for row in burst.rows:
                if row.sequence <= cursor:
                    continue
                for event in row.events:
                    line = render(event)
                    if line is not None:
                        lines.append(line)
                        events.append(event)
        written = Written(self, lines, events)
        if not lines:
            return written
        # Escaping leaves nothing that cannot be encoded; a handler, for even a bug there must not stop the log.
        data = "\n".join([*lines, ""]).encode(errors="backslashreplace")
        taken: list[bytes] = []
        if len(self._tail):
            data = self._missing(data, taken)
        try:
            written.moved = bool(data) and not self.file.append(data)
        except OSError as error:
            written.error = error
        if written.moved or written.error is not None:
            self._tail.put_back(taken)
        return written

    def _missing(self, data: bytes, taken: list[bytes]) -> bytes:
        """Those of the lines that do not stand in the tail."""
        missing: list[bytes] = []
        for line in data[:-1].split(b"\n"):
            if self._tail.take(line):
                taken.append(line)
            else:
                missing += (line, b"\n")
        return b"".join(missing)

    def _settle(self) -> None:
        """When all shards were read that may own lines of the tail, the rest of it is nobody's."""
        if len(self._tail) and not self._unread:
            self._tell(
                f"{self.file.path}: past the last line that is known as ours stand {len(self._tail)} lines "
                "that no event is owed: kept"
            )
            self._tail = Tail()

    def _go_back(self) -> None:
        """Be where it was when it was saved."""
        saved = self.saved
        self.cursors = dict(saved.cursors) if saved else {}
        self._tail = Tail(saved.tail) if saved else Tail()
        self._unread = set(self._expected)


class Written:
    """What became of one logger's share of some bursts."""

    __slots__ = ("error", "events", "lines", "moved", "progress")

    def __init__(self, progress: Progress, lines: Sequence[str], events: Sequence[Event]) -> None:
        self.progress = progress
        self.lines = lines
        self.events = events
        """The events of the lines, in step."""
        self.moved = False
        """Nothing was written: the file ends elsewhere, and that wants remembering first."""
        self.error: OSError | None = None
        """Nothing was written, for this reason."""
