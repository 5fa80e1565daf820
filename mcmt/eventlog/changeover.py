"""Loggers that come, go and change while lines are written: at a reload, between two bursts.

Everything that is written is remembered first. So no file has a line past its remembered end, whose format would be
the old one, and whatever ends us before or after, each line is in the log once. Then what the loggers are from now on
is remembered in one transaction, and only then anything is written by it:

- one that is changed goes on where it is, in the same file or in the one that its path names now;
- one that has another name and the same file goes on where the one before it was;
- one that is gone is not waited for any more;
- one that is new begins where the foremost of the others is: its first line is of what happens now. But where others
  go, it begins where the hindmost of these is: it may be meant in place of one that could not be written.

Rules: runs in the writer's round; files are opened in its thread. What is refused is refused before anything changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

from mcmt.clock import Clock
from mcmt.errors import EventLogError
from mcmt.eventlog.file import LogFile
from mcmt.eventlog.loggers import EventLogger
from mcmt.eventlog.outbox import LogMemory
from mcmt.eventlog.progress import Progress
from mcmt.eventlog.rotation import InThread


class Changeover:
    """Of the loggers of one writer. *run* runs a call in its thread, *save* has every logger remember how far it is."""

    def __init__(
        self,
        memory: LogMemory,
        loggers: list[Progress],
        clock: Clock,
        tell: Callable[[str], None],
        run: InThread,
        save: Callable[[], Awaitable[None]],
    ) -> None:
        self._memory = memory
        self._loggers = loggers
        self._clock = clock
        self._tell = tell
        self._run = run
        self._save = save

    async def carry_out(self, wanted: Sequence[EventLogger], shards: Collection[str]) -> None:
        """Have *wanted* be the loggers, of the events of these *shards*. Raises EventLogError, SpoolError: nothing has
        changed."""
        before = {progress.logger.name: progress for progress in self._loggers}
        going = {name: progress for name, progress in before.items() if not _stays(progress, wanted)}
        if len(going) == 0 and len(before) == len(wanted):
            return
        if any(not progress.settled for progress in going.values()):
            raise EventLogError("the logs are being compared with what a crash has left: try again in a moment")
        await self._save()
        leaving = [progress for name, progress in going.items() if name not in _names(wanted)]
        now = {
            shard: min(progress.cursor(shard) for progress in leaving)
            if leaving
            else max(progress.cursor(shard) for progress in self._loggers)
            for shard in shards
        }
        files = {progress.file.path.resolve(): progress for progress in going.values()}
        opened: list[LogFile] = []
        after: list[Progress] = []
        coming: list[Progress] = []
        try:
            for logger in wanted:
                if (known := before.get(logger.name)) is not None and logger.name not in going:
                    after.append(known)
                    continue
                holder = files.pop(logger.path.resolve(), None)
                if holder is None:
                    opened.append(await self._open(logger))
                progress = Progress(logger, self._clock, self._tell, opened[-1] if holder is None else holder.file)
                renamed = holder if holder in leaving else None
                progress.cursors = _cursors(before.get(logger.name) or renamed, now)
                progress.reopening = holder is not None and holder.reopening
                coming.append(progress)
                after.append(progress)
            states = [progress.state() for progress in coming]
            await self._run(partial(self._memory.save, states))
        except BaseException:
            for file in opened:
                await self._run(file.close)
            raise
        for progress, state in zip(coming, states, strict=True):
            await self._run(partial(progress.file.chmod, progress.logger.mode))
            progress.keep(state)
            progress.started = True
        self._loggers[:] = after
        for progress in going.values():
            progress.resume()
        for progress in files.values():
            await self._run(progress.file.close)

    async def _open(self, logger: EventLogger) -> LogFile:
        file = LogFile(logger.path, logger.mode, self._tell)
        try:
            await self._run(partial(file.open, None))
        except OSError as error:
            raise EventLogError(
                f"{logger.path}: {error.strerror or error}: "
                f"make its folder and file writable, or change logfile of {logger.name}"
            ) from error
        return file


def _stays(progress: Progress, wanted: Sequence[EventLogger]) -> bool:
    """Nothing of it changes."""
    logger = progress.logger
    return any(each.name == logger.name and each.settings == logger.settings for each in wanted)


def _names(loggers: Sequence[EventLogger]) -> Collection[str]:
    return frozenset(logger.name for logger in loggers)


def _cursors(before: Progress | None, now: Mapping[str, int]) -> dict[str, int]:
    return dict(now if before is None else before.cursors)
