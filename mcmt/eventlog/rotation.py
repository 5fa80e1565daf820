"""Rotation: when a log begins a new file, by size, by time or by hand, and what happens to the old one.

A file is rotated only between two bursts, when its logger remembers every row whose lines are in it. So no line is
ever owed to a file that was rotated: whatever ends us, before the rename, after it, or before the new file is
remembered, the lines that are still owed belong to the file that comes next, each once. The old file is compressed only
when the new one's position is remembered, for until then its inode must stay what it is.

When a file is due: schedule.py. A rotation that is refused is told, and tried again after a while; the lines go on into
the old file meanwhile.

Rules: lives on the event loop; folders and files are touched in the writer's thread, old files in a thread of their own
(compression.py). One timer a logger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mcmt.clock import Clock, Timer
from mcmt.errors import EventLogError
from mcmt.eventlog.compression import Archive
from mcmt.eventlog.file import LogFile
from mcmt.eventlog.names import Rotated, next_name, rotated
from mcmt.eventlog.progress import Progress
from mcmt.eventlog.schedule import Schedule, began

RETRY_DELAY = 60.0
"""Seconds until what was refused is tried again."""


class Rotation(msgspec.Struct, frozen=True):
    """What became of one log that was asked to begin a new file."""

    logger: str
    logfile: str
    rotated: str | None = None
    """The old file's name now; compressed it is this and ``.gz``. None: there is no new file, or not yet."""
    reason: str = ""
    """Why not."""
    failed: bool = False
    """It was refused, and not just unnecessary."""


class InThread(Protocol):
    """Runs a call in the writer's thread."""

    def __call__(self, call: Callable[[], Any]) -> Awaitable[Any]:
        """What the call returns or raises."""


class _Log:
    """One logger's file, as rotation sees it."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.settings = progress.logger.rotate
        self.schedule = Schedule(self.settings)
        self.wanted = False
        """By hand, and it could not be done yet."""
        self.refused_until = float("-inf")
        """On the monotonic clock."""
        self.timer: Timer | None = None
        self.untended = self.settings is not None
        """There may be old files to compress or delete."""
        self.tending: asyncio.Task[None] | None = None
        self.retry: Timer | None = None

    def turn_to(self, progress: Progress) -> None:
        """Another logger, or the same one by other settings, writes the file."""
        self.cancel()
        self.timer = self.retry = None
        self.progress = progress
        self.settings = progress.logger.rotate
        self.schedule = Schedule(self.settings)
        self.untended = self.settings is not None

    def quiet(self, now: float) -> bool:
        """There is nothing to do, and what there will be is waited for."""
        if self.wanted or self.settings is None:
            return not self.wanted
        schedule, file = self.schedule, self.progress.file
        waited_for = self.timer is not None or not schedule.timed
        return waited_for and schedule.knows(file, now) and not schedule.due(file, now)

    def answer(self, rotated: Path | None = None, reason: str = "", failed: bool = False) -> Rotation:
        logger = self.progress.logger
        return Rotation(logger.name, str(logger.path), None if rotated is None else str(rotated), reason, failed)

    def cancel(self) -> None:
        for timer in (self.timer, self.retry):
            if timer is not None:
                timer.cancel()


class Rotations:
    """Every logger's. *wake* calls for another round of the writer, *run* runs a call in its thread, *save* has every
    logger remember how far it has come."""

    def __init__(
        self,
        loggers: Sequence[Progress],
        clock: Clock,
        tell: Callable[[str], None],
        wake: Callable[[], None],
        run: InThread,
        save: Callable[[], Awaitable[None]],
    ) -> None:
        self._loggers = loggers
        self._logs = [_Log(progress) for progress in loggers]
        self._past: list[_Log] = []
        """Those that are no loggers any more, and whose old files are being tended."""
        self._clock = clock
        self._tell = tell
        self._wake = wake
        self._run = run
        self._save = save
        self._archive = Archive()
        self._asked: list[tuple[Sequence[_Log], asyncio.Future[Sequence[Rotation]]]] = []

    def ask(self, name: str | None) -> asyncio.Future[Sequence[Rotation]]:
        """Rotate the logger of that name, with its stanza or without, or all; the answer comes with the next round.

        Raises EventLogError when there is none.
        """
        chosen = [
            log for log in self._logs if name in (None, log.progress.logger.name, _instance(log.progress.logger.name))
        ]
        if not chosen:
            names = ", ".join(log.progress.logger.name for log in self._logs)
            raise EventLogError(f"there is no logger {name}; there are: {names}")
        future = asyncio.get_running_loop().create_future()
        self._asked.append((chosen, future))
        self._wake()
        return future

    def reload(self) -> None:
        """The loggers are others now."""
        before = {log.progress.file: log for log in self._logs}
        logs: list[_Log] = []
        for progress in self._loggers:
            log = before.pop(progress.file, None) or _Log(progress)
            if log.progress is not progress:
                log.turn_to(progress)
            logs.append(log)
        self._logs = logs
        for log in before.values():
            log.cancel()
        self._past = [log for log in (*self._past, *before.values()) if log.tending]

    async def carry_out(self) -> None:
        """Between two bursts: begin new files where they are due."""
        asked = tuple(self._asked)
        by_hand = {log for logs, _ in asked for log in logs}
        now = self._clock.time()
        answers: dict[_Log, Rotation] = {}
        for log in self._logs:
            log.wanted = log.wanted or log in by_hand
            if not log.quiet(now):
                answers[log] = await self._consider(log, now)
        for each in asked:
            self._asked.remove(each)
            logs, future = each
            if not future.done():
                future.set_result([answers[log] for log in logs if log in answers])

    async def tend(self) -> None:
        """Have old files compressed and deleted, where it is remembered by now what the log is written to."""
        for log in self._logs:
            progress = log.progress
            if not log.untended or log.tending or not progress.remembered or progress.reopening:
                continue
            log.untended = False
            try:
                files = await self._run(partial(_old_files, progress.file))
            except OSError as error:
                self._postpone(log, error)
                continue
            if files:
                log.tending = asyncio.get_running_loop().create_task(self._tend(log, files))

    async def stop(self) -> None:
        """No more rotations; what is being compressed is left as it was."""
        self._archive.close()
        for log in self._logs:
            log.cancel()
        await asyncio.gather(*[log.tending for log in (*self._logs, *self._past) if log.tending])
        for _, future in self._asked:
            if not future.done():
                future.set_exception(EventLogError("the event log was stopped before it could be rotated"))

    async def _consider(self, log: _Log, now: float) -> Rotation:
        progress, file = log.progress, log.progress.file
        not_yet = log.answer(reason="its lines are not all on disk; it is rotated once they are", failed=True)
        comparing = not progress.settled and not progress.started
        if comparing or progress.failing or progress.reopening or not progress.remembered:
            return not_yet
        schedule = log.schedule
        try:
            if not schedule.knows(file, now):
                schedule.begin(file.inode, await self._run(partial(began, file, now)))
            if not file.offset:
                schedule.begin(file.inode, now)
            may = self._clock.monotonic() >= log.refused_until
            if file.offset and (log.wanted or (may and schedule.due(file, now))):
                if progress.changed:
                    await self._save()
                return not_yet if progress.changed else await self._rotate(log, now)
            log.wanted = False
            return log.answer(reason="it is empty")
        except Exception as error:  # refused, or a bug of ours: the log must go on
            log.refused_until = self._clock.monotonic() + RETRY_DELAY
            why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            text = f"{file.path}: cannot be rotated: {why}"
            self._tell(f"{text}; it is written on, and tried again in {RETRY_DELAY:.0f} s")
            log.wanted = False
            return log.answer(reason=text, failed=True)
        finally:
            progress.take_back()
            self._arm(log, now)

    async def _rotate(self, log: _Log, now: float) -> Rotation:
        progress, file = log.progress, log.progress.file
        log.wanted = False
        if await self._run(file.moved):
            await self._run(partial(file.open, None))
            progress.renew()
            return log.answer(reason="others had renamed it; a new file is begun")
        target = await self._run(partial(_rename, file, now))
        progress.renew()
        if target is None:
            log.wanted = True
            self._wake()
            return log.answer(reason="others wrote to it; it is rotated in a moment", failed=True)
        log.schedule.begin(file.inode, now)
        log.untended = log.settings is not None
        return log.answer(target)

    def _arm(self, log: _Log, now: float) -> None:
        """Come back when the file is too old, or a refused rotation may be tried again."""
        if log.timer is not None:
            log.timer.cancel()
        refused = log.refused_until - self._clock.monotonic()
        delay = refused if refused > 0 else log.schedule.due_at - now

        def due() -> None:
            log.timer = None
            self._wake()

        log.timer = self._clock.call_later(delay, due) if 0 < delay < float("inf") else None

    async def _tend(self, log: _Log, files: Sequence[Rotated]) -> None:
        try:
            if log.settings is not None:
                await self._archive.tend(files, log.settings)
        except OSError as error:
            self._postpone(log, error)
        except Exception as error:  # a bug in this must not stop the log
            self._tell(f"{log.progress.file.path}: its rotated files are left alone: {error!r}")
        finally:
            log.tending = None
        if log.untended:
            self._wake()

    def _postpone(self, log: _Log, error: OSError) -> None:
        what = error.filename or f"{log.progress.file.path}: a rotated file"
        self._tell(
            f"{what} cannot be compressed or deleted: {error.strerror or error}; "
            f"it stays as it is, and is tried again in {RETRY_DELAY:.0f} s"
        )

        def again() -> None:
            log.untended = True
            self._wake()

        log.retry = self._clock.call_later(RETRY_DELAY, again)


def _instance(name: str) -> str:
    """A logger's name without its stanza."""
    return name.partition(".")[2]


def _old_files(file: LogFile) -> Sequence[Rotated]:
    return [each for each in rotated(file.path) if each.inode != file.inode]


def _rename(file: LogFile, now: float) -> Path | None:
    target = next_name(file.path, rotated(file.path), now)
    return target if file.rotate(target) else None
