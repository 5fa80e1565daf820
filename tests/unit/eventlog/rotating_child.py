"""A process that writes a log of small files from an outbox in a file, to be killed in the middle of a rotation.

python -m tests.unit.eventlog.rotating_child FOLDER CHECKPOINT
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcmt.clock import SystemClock
from mcmt.config.settings import RotateSettings
from mcmt.eventlog.loggers import EventLogger
from mcmt.eventlog.writer import EventLogWriter
from tests.unit.eventlog.child import events_of, kill
from tests.unit.eventlog.support import FileMemory, FileOutbox, logger

SETTINGS = RotateSettings(size=8192, every=None, keep=None)

CHECKPOINTS = {
    "before the rename": ("rename", "before"),
    "after the rename": ("rename", "after"),
    "before the folder is on disk": ("fsync folder", "before"),
    "before the new file is remembered": ("save", "before"),
    "once the new file is remembered": ("save", "after"),
    "before anything is compressed": ("write", "before"),
    "before the compressed file is on disk": ("fsync file", "before"),
    "before the compressed file has its name": ("replace", "before"),
    "when both files are there": ("replace", "after"),
    "before the plain file goes": ("unlink", "before"),
    "after the plain file has gone": ("unlink", "after"),
}
"""What is called there, and on which side of the call the process ends."""
_ROTATIONS = 3


def loggers(folder: Path) -> list[EventLogger]:
    """One that rotates and one that does not."""
    return [logger(folder / "one.ec", rotate=SETTINGS), logger(folder / "two.ec", "apn_logger.two")]


def _arm(checkpoint: str, memory: FileMemory) -> None:
    """Kill this process at the checkpoint of its third rotation."""
    call, side = CHECKPOINTS[checkpoint]
    renames = 0

    def on(name: str, when: str) -> None:
        if (name, when) == (call, side) and renames >= _ROTATIONS - (name == "rename" and when == "before"):
            kill()

    def around(name: Callable[..., str], real: Callable[..., Any]) -> Callable[..., Any]:
        def do(*given: Any, **named: Any) -> Any:
            nonlocal renames
            what = name(*given)
            on(what, "before")
            done = real(*given, **named)
            renames += what == "rename"
            on(what, "after")
            return done

        return do

    def kind(descriptor: int) -> str:
        return "fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file"

    for name in ("rename", "replace", "unlink", "write"):
        setattr(os, name, around(lambda *_, name=name: name, getattr(os, name)))
    setattr(os, "fsync", around(kind, os.fsync))  # noqa: B010 - mypy takes no assignment to a function
    memory.before_save = lambda: on("save", "before")
    memory.after_save = lambda: on("save", "after")


async def main(folder: Path, checkpoint: str) -> None:
    outbox = FileOutbox(folder / "outbox.sqlite")
    memory = FileMemory(folder / "memory.sqlite")
    _arm(checkpoint, memory)
    writer = EventLogWriter(memory, loggers(folder), SystemClock(), print)
    writer.add("0", outbox)
    await writer.start()
    while True:
        for _ in range(20):
            outbox.put(events_of("0", outbox.next_sequence()))
        writer.wake()
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
