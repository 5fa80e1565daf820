"""A process that writes two logs from the outboxes of two shards, in files, to be killed.

    python -m tests.unit.eventlog.child FOLDER run|rotate|finish [CHECKPOINT]

``run`` puts rows and writes them until it is killed, at the checkpoint if one is named; ``rotate`` renames and
reopens the first log under load, then kills itself; ``finish`` writes what is owed and ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mcmt.clock import SystemClock
from mcmt.eventlog.writer import EventLogWriter
from mcmt.message.event import Event
from tests.unit.eventlog.support import FileMemory, FileOutbox, delivery, logger

SHARDS = ("0", "1")
CHECKPOINTS = {
    "first write": 1,
    "write": 51,
    "torn write": 50,
    "fdatasync": 5,
    "save": 5,
    "saved": 5,
    "acknowledge": 8,
    "acknowledged": 8,
}
"""The process ends there, at that time of its coming by."""


def events_of(shard: str, sequence: int) -> list[Event]:
    """The events of a row; one to seven. None are equal, but for those of every fifth row, which are all equal."""
    number = 0 if sequence % 5 == 0 else 10 * sequence + 1_000_000 * int(shard)
    return [delivery(number + (n if number else 0)) for n in range(1 + sequence % 7)]


def outboxes(folder: Path) -> dict[str, FileOutbox]:
    """By shard."""
    return {name: FileOutbox(folder / f"outbox-{name}.sqlite") for name in SHARDS}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(boxes: Iterable[FileOutbox], memory: FileMemory, checkpoint: str) -> None:
    """Kill this process at the checkpoint."""
    turn = CHECKPOINTS[checkpoint]
    count = 0

    def on() -> bool:
        nonlocal count
        count += 1
        return count == turn

    def pass_by() -> None:
        if on():
            kill()

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*given: Any) -> Any:
            pass_by()
            return call(*given)

        return replacement

    pwrite = os.pwrite

    def torn(descriptor: int, data: memoryview, start: int) -> int:
        if on():
            pwrite(descriptor, data[: len(data) // 2], start)
            kill()
        return pwrite(descriptor, data, start)

    match checkpoint:
        case "save":
            memory.before_save = pass_by
        case "saved":
            memory.after_save = pass_by
        case "acknowledge":
            for box in boxes:
                box.on_acknowledge = pass_by
        case "acknowledged":
            for box in boxes:
                box.on_acknowledged = pass_by
        case _:
            name, replacement = {
                "first write": ("pwrite", before(pwrite)),
                "write": ("pwrite", before(pwrite)),
                "torn write": ("pwrite", torn),
                "fdatasync": ("fdatasync", before(os.fdatasync)),
            }[checkpoint]
            setattr(os, name, replacement)


async def main(folder: Path, what: str, checkpoint: str = "") -> None:
    boxes = outboxes(folder)
    memory = FileMemory(folder / "memory.sqlite")
    if checkpoint:
        _arm(boxes.values(), memory, checkpoint)
    first, second = folder / "one.ec", folder / "two.ec"
    loggers = [logger(first, "apn_logger.one"), logger(second, "apn_logger.two", "%d %i")]
    writer = EventLogWriter(memory, loggers, SystemClock(), print)
    for name, box in boxes.items():
        writer.add(name, box)
    await writer.start()
    print("writing", flush=True)

    def put() -> None:
        for _ in range(10):
            for name, box in boxes.items():
                box.put(events_of(name, box.next_sequence()))
        writer.wake()

    turn = 0
    while what != "finish":
        put()
        await asyncio.sleep(0)
        turn += 1
        if what == "rotate" and turn % 10 == 0:
            first.rename(folder / f"one.ec.{turn:04}")
            task = asyncio.create_task(writer.reopen())
            if turn == 60:
                await asyncio.sleep(0)
                kill()
            put()
            await task
            assert first.exists()
        if turn % 25 == 0:
            await writer.flushed()
    await writer.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
