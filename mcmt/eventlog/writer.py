"""The reader of every shard's outbox: turns rows of events into lines in files, each exactly once.

A round: take a burst of rows from each shard that has some, render them for each logger, one write a file. From time to
time (saving.py) the files are brought to disk, each logger remembers its file's end and how far it has come in every
shard, and the shards let go of the rows that all loggers remember. What that gives:

- What stands in a file past its remembered end is of rows past the remembered cursors, and those are still in their
  outboxes. After a crash they are read again, and only what the file lacks is written (tail.py).
- For that to hold, a file is not written before its end is remembered: not at start, not after a rotation, not after
  someone cut the file.
- Loggers advance alone (progress.py), and shards are read alone (reading.py).

Rules: file I/O, rendering and the memory in one thread of our own, never on the loop; one task, and one a burst that is
read, whatever the number of events; memory holds one burst a shard. A SpoolError or a bug here is told, and tried again
in a second: the rows are safe where they are. Nothing here raises into the engine once ``start`` has returned.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from mcmt.clock import Clock, Timer
from mcmt.errors import EventLogError, OutboxAway
from mcmt.eventlog.changeover import Changeover
from mcmt.eventlog.followers import Followers, Listener
from mcmt.eventlog.heartbeat import Heartbeats
from mcmt.eventlog.loggers import EventLogger
from mcmt.eventlog.outbox import EventTable, LogMemory, Outbox
from mcmt.eventlog.progress import Progress, Written
from mcmt.eventlog.reading import Reading
from mcmt.eventlog.rotation import Rotation, Rotations
from mcmt.eventlog.saving import Saving
from mcmt.eventlog.shard import Burst, Shard
from mcmt.message.event import Remembered

_T = TypeVar("_T")
_RETRY_DELAY = 1.0
_GONE_DELAY = 0.05
_REMINDER = 60.0


class EventLogWriter:
    """Writes the lines of every logger until it is stopped. *tell* takes one line for stderr, from any thread."""

    def __init__(
        self,
        memory: LogMemory,
        loggers: Sequence[EventLogger],
        clock: Clock,
        tell: Callable[[str], None],
        table: EventTable | None = None,
    ) -> None:
        """*table*: is given every row as it is read, and knows it before the row goes."""
        self._table = table
        self._memory = memory
        self._clock = clock
        self._tell = tell
        self._all = [Progress(logger, clock, tell) for logger in loggers]
        self._reading = Reading(self._all, clock, self._ring, self._try_again, self._trip)
        self._heartbeats = Heartbeats(self._all, clock, self._ring)
        self._saving = Saving(memory, self._all, clock, self._ring, self.wake, self._in_thread, table)
        self._rotations = Rotations(self._all, clock, tell, self._ring, self._in_thread, self._saving.save)
        self._changeover = Changeover(memory, self._all, clock, tell, self._in_thread, self._saving.save)
        self._thread = ThreadPoolExecutor(1, "eventlog")
        self._followers = Followers(tell)
        self._due = asyncio.Event()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retry: Timer | None = None
        self._stopping = False
        self._closed = False
        self._turn = 0
        self._told_at = -_REMINDER
        self._flushing: list[tuple[int, asyncio.Future[None]]] = []
        self._reopening: list[asyncio.Future[None]] = []
        self._changing: list[tuple[Sequence[EventLogger], asyncio.Future[None]]] = []

    def add(self, name: str, outbox: Outbox) -> None:
        """Read the outbox of the shard *name* too; of a name that is there already, in place of the one it had.

        All shards that may have rows of before a crash must be named before ``start``, also those that are away: the
        lines that the crash left are compared with the rows of those.
        """
        self._reading.add(name, outbox)
        self._ring()

    async def remove(self, name: str) -> None:
        """Read the shard no more, and forget how far it was read: for one whose file is to be deleted.

        Returns when every row has its lines and has gone, so it waits for an outbox that is away. Nothing may come
        into it any more. Raises SpoolError, EventLogError when the writer is stopped before, and KeyError for a name
        that is not there.
        """
        while not await self._gone(self._reading.shards[name]):
            await self.flushed()
            self._reading.shards[name].acknowledged = 0
            later = asyncio.Event()
            self._clock.call_later(_GONE_DELAY, later.set)
            await later.wait()
        self._reading.remove(name)
        for progress in self._all:
            progress.forget(name)
        await self.flushed()

    async def start(self) -> None:
        """Open the files, write what a crash left undone, and go on in the background until ``stop``.

        Raises EventLogError naming the file that cannot be written, SpoolError if what was remembered cannot be read.
        """
        known = await self._in_thread(self._memory.load)
        try:
            for progress in self._all:
                await self._open(progress, known)
        except BaseException:
            await self._close()
            raise
        self._heartbeats.start()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self.wake()
        await self._settled.wait()

    def wake(self, name: str | None = None) -> None:
        """There may be new rows in the outbox of the shard *name*, or in any (the spool's ``on_events``)."""
        self._reading.wake(name)

    async def reopen(self) -> None:
        """The files may have been renamed (SIGHUP): finish the burst, and write to what the paths name now."""
        self._check_running()
        for progress in self._all:
            progress.reopening = True
            progress.resume()
        future = asyncio.get_running_loop().create_future()
        self._reopening.append(future)
        self.wake()
        self._ring()
        await future

    async def reload(self, loggers: Sequence[EventLogger]) -> None:
        """Go on with these loggers (changeover.py). Raises EventLogError, SpoolError: the others stay as they are."""
        self._check_running()
        future = asyncio.get_running_loop().create_future()
        self._changing.append((loggers, future))
        self._ring()
        await future

    async def rotate(self, logger: str | None = None) -> Sequence[Rotation]:
        """Begin a new file now for the logger of that name, with its stanza or without; None: for every one.

        Raises EventLogError when there is no such logger, or the writer is stopped before.
        """
        self._check_running()
        return await self._rotations.ask(logger)

    async def stop(self) -> None:
        """Write and acknowledge everything in the outboxes, then close. What cannot be written now stays there, and
        so does what is in an outbox that is away."""
        self._stopping = True
        self._heartbeats.stop()
        for progress in self._all:
            progress.resume()
        self._turn += 1
        self.wake()
        self._ring()
        if self._task is not None:
            await self._task
        self._reading.cancel()
        for progress in self._all:
            progress.resume()
        self._saving.cancel()
        if self._retry is not None:
            self._retry.cancel()
        await self._close()
        for future in (*[future for _, future in (*self._flushing, *self._changing)], *self._reopening):
            if not future.done():
                future.set_exception(EventLogError("the event log was stopped before all lines could be written"))

    def follow(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with logger's name, line and event for every line once it is in the file, on the event loop.

        A line that has to be written anew, because the disk refused it after all, comes again. Returns what ends it.
        A listener that raises is told of and called no more.
        """
        return self._followers.add(listener)

    @property
    def failing(self) -> Sequence[str]:
        """Log files that the system refuses to write; what is theirs is kept, and tried again."""
        return [str(progress.file.path) for progress in self._all if progress.failing]

    async def flushed(self) -> None:
        """Return when everything that was in the outboxes at the call, but for those that are away, is on disk in the
        files and remembered.

        Raises EventLogError when the writer is stopped before.
        """
        self._check_running()
        self._turn += 1
        future = asyncio.get_running_loop().create_future()
        self._flushing.append((self._turn, future))
        self.wake()
        self._ring()
        await future

    def _ring(self) -> None:
        self._due.set()

    def _check_running(self) -> None:
        if self._task is None or self._task.done():
            raise EventLogError("the event log is not running")

    async def _run(self) -> None:
        while True:
            self._due.clear()
            try:
                await self._step()
                done = not self._behind()
            except Exception as error:  # a refusal of the memory's or a bug of ours: the log must go on
                self._trip(error)
                done = True
            settled = self._reading.begun and all(progress.settled for progress in self._all)
            if not self._settled.is_set() and (done or settled):
                self._settled.set()
                for progress in self._all:
                    progress.started = True
                self._ring()
            if done and self._stopping:
                return
            await self._due.wait()

    async def _step(self) -> None:
        """One round: what is due beside the rows, then a burst of each shard that has one."""
        if not self._stopping:
            await self._change()
        await self._follow_renames()
        if not self._stopping:
            await self._rotations.carry_out()
        if self._saving.due:
            await self._saving.save()
        if not self._stopping:
            await self._rotations.tend()
        await self._write(self._reading.take())
        waited_for = bool(self._flushing) or self._stopping
        self._reading.ask(self._turn, hurry=waited_for)
        if waited_for and not self._behind():
            await self._saving.save()
        await self._reading.acknowledge()
        self._release_flushing()
        if self._saving.due:
            self._ring()

    def _behind(self) -> bool:
        """Rows that somebody waits for are still to be read, by loggers that can be written."""
        turn = self._flushing[0][0] if self._flushing and not self._stopping else self._turn
        return any(not progress.failing for progress in self._all) and self._reading.behind(turn)

    async def _write(self, bursts: Sequence[Burst]) -> None:
        ready = [progress for progress in self._all if progress.ready]
        if not bursts and not any(progress.beat for progress in ready):
            return
        whole = bool(ready)
        rows = any(burst.rows for burst in bursts)
        for written in await self._in_thread(partial(_write, ready, bursts, self._table)):
            progress = written.progress
            if written.error is not None:
                progress.failed(written.error, self.wake)
            elif written.moved:
                progress.take_back()
                progress.renew()
                whole = False
            else:
                progress.beat = None
                progress.advance(bursts)
                if rows:
                    self._saving.wrote(len(written.lines))
                self._followers.tell(progress.logger.name, written.lines, written.events)
        self._reading.wrote(bursts, whole)

    def _release_flushing(self) -> None:
        while self._flushing and self._reading.done(self._flushing[0][0]):
            _, future = self._flushing.pop(0)
            if not future.done():
                future.set_result(None)

    async def _follow_renames(self) -> None:
        moving = [progress for progress in self._all if progress.reopening and not progress.failing]
        if any(progress.changed for progress in moving):
            await self._saving.save()
        for progress in moving:
            if progress.changed or progress.failing:
                continue
            file = progress.file
            try:
                if await self._in_thread(file.moved):
                    await self._in_thread(partial(file.open, None))
                    progress.renew()
                progress.reopening = False
            except OSError as error:
                progress.failed(error, self.wake)
        reached, self._reopening = self._reopening, []
        for future in reached:
            if not future.done():
                future.set_result(None)

    async def _change(self) -> None:
        while self._changing:
            loggers, future = self._changing[0]
            try:
                await self._changeover.carry_out(loggers, tuple(self._reading.shards))
            except Exception as error:  # whoever asked is told, and the log goes on
                if not future.done():
                    future.set_exception(error)
            else:
                self._heartbeats.reload()
                self._rotations.reload()
                # Where one is behind the others, it is read from there.
                self.wake()
                if not future.done():
                    future.set_result(None)
            self._changing.pop(0)

    async def _gone(self, shard: Shard) -> bool:
        """No row of the shard is left."""
        try:
            return not await shard.outbox.read_outbox(0, 1)
        except OutboxAway:
            return False

    async def _open(self, progress: Progress, known: Mapping[str, Remembered]) -> None:
        try:
            await self._in_thread(partial(progress.open, known.get(progress.logger.name), tuple(self._reading.shards)))
            progress.reopening = await self._in_thread(progress.file.moved)
        except OSError as error:
            remedy = "stop that one" if error.errno == errno.EBUSY else "make its folder and file writable"
            raise EventLogError(
                f"{progress.file.path}: {error.strerror or error}: "
                f"{remedy}, or change logfile of {progress.logger.name}"
            ) from error

    def _trip(self, error: Exception) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= _REMINDER:
            self._told_at = now
            self._tell(f"the event log cannot go on for now, and tries again every second: {error!r}")
        self._try_again()

    def _try_again(self) -> None:
        if not self._stopping:
            if self._retry is not None:
                self._retry.cancel()
            self._retry = self._clock.call_later(_RETRY_DELAY, self.wake)

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


def _write(loggers: Sequence[Progress], bursts: Sequence[Burst], table: EventTable | None) -> list[Written]:
    if table is not None:
        for burst in bursts:
            table.take(burst.shard, burst.rows)
    return [progress.write(bursts) for progress in loggers]
