"""The outbox's reader: turns rows of events into lines on disk, each exactly once.

One burst: read rows, render them for each logger, one write and one fdatasync a file, then acknowledge:
the outbox lets the rows go and remembers the files' positions in one transaction. What that gives:

- At any moment what stands in a file past its remembered position comes from rows still in the outbox.
  After a crash those rows are read again, and LogFile.append writes only what the file lacks.
- For that to hold, a file is not written before the outbox knows its position (``_remember``): not at
  start, not after a rotation, not after someone cut the file.
- Loggers advance alone (mcmt/eventlog/progress.py); rows go when all of them have them.

Rules: file I/O and rendering in one thread of our own, never on the loop; one task, whatever the number
of events; memory holds one burst. A SpoolError or a bug here is told, and tried again in a second: the
rows are safe where they are. Nothing here raises into the engine once ``start`` has returned.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from mcmt.clock import Clock, Timer
from mcmt.errors import EventLogError
from mcmt.eventlog.heartbeat import Heartbeats
from mcmt.eventlog.loggers import EventLogger
from mcmt.eventlog.outbox import Outbox
from mcmt.eventlog.progress import Progress, Written
from mcmt.eventlog.rotation import Rotation, Rotations
from mcmt.message.event import Event, LogPosition, OutboxRow

Listener = Callable[[str, str, Event], None]

_EVENTS = 2000
"""Events in a burst, at most; a row with more is a burst of its own."""
_ROWS = 256
"""Rows read at once, at most; fewer when they hold many events."""
_T = TypeVar("_T")
_RETRY_DELAY = 1.0
_REMINDER = 60.0


class EventLogWriter:
    """Writes the lines of every logger until it is stopped. *tell* takes one line for stderr, from any thread."""

    def __init__(
        self, outbox: Outbox, loggers: Sequence[EventLogger], clock: Clock, tell: Callable[[str], None]
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._tell = tell
        self._all = [Progress(logger, clock, tell) for logger in loggers]
        self._heartbeats = Heartbeats(self._all, outbox, clock, self.wake)
        self._rotations = Rotations(self._all, clock, tell, self.wake, self._in_thread)
        self._thread = ThreadPoolExecutor(1, "eventlog")
        self._listeners: dict[object, Listener] = {}
        self._due = asyncio.Event()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retry: Timer | None = None
        self._stopping = False
        self._closed = False
        self._through = 0
        self._rows_wanted = 16
        self._told_at = -_REMINDER
        self._flushing: list[asyncio.Future[None]] = []
        self._reopening: list[asyncio.Future[None]] = []

    async def start(self) -> None:
        """Open the files, write what a crash left undone, and go on in the background until ``stop``.

        Raises EventLogError naming the file that cannot be written, SpoolError if the outbox cannot be read.
        """
        known = {position.logger: position for position in await self._outbox.log_positions()}
        try:
            for progress in self._all:
                await self._open(progress, known.get(progress.logger.name))
        except BaseException:
            await self._close()
            raise
        self._heartbeats.start()
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._settled.wait()

    def wake(self) -> None:
        """There is something to do: new rows in the outbox (the spool's ``on_events``). On the event loop."""
        self._due.set()

    async def reopen(self) -> None:
        """The files may have been renamed (SIGHUP): finish the burst, and write to what the paths name now.

        A logger that is ahead of a failing one writes nothing more to a renamed file, and follows when it may.
        """
        for progress in self._all:
            progress.reopening = True
            progress.resume()
        await self._reached(self._reopening)

    async def rotate(self, logger: str | None = None) -> Sequence[Rotation]:
        """Begin a new file now for the logger of that name, with its stanza or without; None: for every one.

        Raises EventLogError when there is no such logger, or the writer is stopped before.
        """
        self._check_running()
        return await self._rotations.ask(logger)

    async def stop(self) -> None:
        """Write and acknowledge everything in the outbox, then close. What cannot be written now stays there."""
        self._stopping = True
        self._heartbeats.stop()
        for progress in self._all:
            progress.resume()
        self.wake()
        if self._task is not None:
            await self._task
        for progress in self._all:
            progress.resume()
        if self._retry is not None:
            self._retry.cancel()
        await self._close()
        for future in (*self._flushing, *self._reopening):
            if not future.done():
                future.set_exception(EventLogError("the event log was stopped before all lines could be written"))

    def follow(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with logger's name, line and event for every line once it is on disk, on the event loop.

        Returns what ends it. A listener that raises is told of and called no more.
        """
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None

    async def flushed(self) -> None:
        """Return when everything that was in the outbox at the call is on disk in the files.

        Raises EventLogError when the writer is stopped before.
        """
        await self._reached(self._flushing)

    async def _reached(self, waiters: list[asyncio.Future[None]]) -> None:
        self._check_running()
        future = asyncio.get_running_loop().create_future()
        waiters.append(future)
        self.wake()
        await future

    def _check_running(self) -> None:
        if self._task is None or self._task.done():
            raise EventLogError("the event log is not running")

    async def _run(self) -> None:
        while True:
            stopping = self._stopping
            try:
                busy = await self._step()
            except Exception as error:  # the spool's refusal or a bug of ours: the log must go on
                busy = False
                self._trip(error)
            if not busy or not any(progress.file.tail for progress in self._all):
                self._settled.set()
            if busy:
                continue
            if stopping:
                return
            await self._due.wait()
            self._due.clear()

    async def _step(self) -> bool:
        """One burst and what is due beside it; True when there may be more."""
        flushing = tuple(self._flushing)
        if not self._stopping:
            await self._heartbeats.record(self._trip)
        await self._follow_renames()
        if not self._stopping:
            await self._rotations.carry_out(self._through)
        await self._remember()
        if not self._stopping:
            await self._rotations.tend()
        ready = [progress for progress in self._all if progress.ready]
        if not ready:
            return False
        start = min(progress.cursor for progress in ready)
        rows, all_of_them = await self._read(start)
        if rows:
            last = rows[-1].sequence
            behind = [progress for progress in ready if progress.cursor == start]
            for written in await self._in_thread(partial(_write, behind, rows)):
                self._take(written, last)
            await self._remember()
        else:
            last = start
            await self._settle([progress for progress in ready if progress.file.tail])
        if all_of_them and all(progress.cursor >= last for progress in self._all):
            self._release(self._flushing, flushing)
        return bool(rows) or not all(progress.remembered for progress in ready)

    async def _read(self, start: int) -> tuple[Sequence[OutboxRow], bool]:
        """The next burst past row *start*, and whether the outbox has no more."""
        asked = self._rows_wanted
        rows = await self._outbox.read_outbox(start, asked)
        events = taken = 0
        for row in rows:
            events += len(row.events)
            if taken and events > _EVENTS:
                break
            taken += 1
        # Whoever catches up ends a burst where those ahead ended one, so that positions can be acknowledged on the way.
        through = rows[taken - 1].sequence if rows else start
        marks = [mark for progress in self._all if (mark := progress.last_mark(start, through)) is not None]
        while marks and taken > 1 and rows[taken - 1].sequence > min(marks):
            taken -= 1
        # Rows of many events are asked for in small numbers: the burst is what memory holds.
        total = sum(len(row.events) for row in rows)
        self._rows_wanted = min(_ROWS, max(1, _EVENTS * len(rows) // max(1, total)))
        return rows[:taken], taken == len(rows) < asked

    def _take(self, written: Written, last: int) -> None:
        progress = written.progress
        if written.error is not None:
            progress.failed(written.error, self.wake)
            return
        if written.moved:
            progress.restart(self._through)
            return
        progress.advance(last, len(written.lines))
        for key, listener in tuple(self._listeners.items()):
            try:
                for line, event in zip(written.lines, written.events, strict=True):
                    listener(progress.logger.name, line, event)
            except Exception as error:  # a follower's bug must not stop the log
                del self._listeners[key]
                self._tell(f"a follower of the event log failed and is dropped: {error!r}")

    async def _remember(self) -> None:
        """Acknowledge the rows that every logger has, and make the outbox know the positions of new files."""
        through = min(progress.cursor for progress in self._all)
        if through == self._through and all(progress.remembered for progress in self._all):
            return
        positions: list[LogPosition] = []
        for progress in self._all:
            position = progress.position_at(through)
            if position is None:
                return
            positions.append(position)
        await self._outbox.acknowledge(through, positions)
        self._through = through
        for progress in self._all:
            progress.acknowledged(through)

    async def _settle(self, finished: Sequence[Progress]) -> None:
        for progress in finished:
            try:
                await self._in_thread(progress.file.settle)
                progress.settled()
            except OSError as error:
                progress.failed(error, self.wake)

    async def _follow_renames(self) -> None:
        for progress in self._all:
            file = progress.file
            if not progress.reopening or progress.ahead or progress.failing or file.tail:
                continue
            try:
                if await self._in_thread(file.moved):
                    await self._in_thread(partial(file.open, None))
                    progress.restart(self._through)
                progress.reopening = False
            except OSError as error:
                progress.failed(error, self.wake)
        self._release(self._reopening, tuple(self._reopening))

    async def _open(self, progress: Progress, known: LogPosition | None) -> None:
        try:
            stands = await self._in_thread(partial(progress.file.open, known))
            progress.reopening = await self._in_thread(progress.file.moved)
        except OSError as error:
            remedy = "stop that one" if error.errno == errno.EBUSY else "make its folder and file writable"
            raise EventLogError(
                f"{progress.file.path}: {error.strerror or error}: "
                f"{remedy}, or change logfile of {progress.logger.name}"
            ) from error
        progress.restart(0, remembered=stands)

    def _trip(self, error: Exception) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= _REMINDER:
            self._told_at = now
            self._tell(f"the event log cannot go on for now, and tries again every second: {error!r}")
        if not self._stopping:
            if self._retry is not None:
                self._retry.cancel()
            self._retry = self._clock.call_later(_RETRY_DELAY, self.wake)

    def _release(self, waiters: list[asyncio.Future[None]], reached: Sequence[asyncio.Future[None]]) -> None:
        for future in reached:
            waiters.remove(future)
            if not future.done():
                future.set_result(None)

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._rotations.stop()
        for progress in self._all:
            await self._in_thread(progress.file.close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _write(loggers: Sequence[Progress], rows: Sequence[OutboxRow]) -> list[Written]:
    return [progress.write(rows) for progress in loggers]
