"""A process that writes two logs from an outbox in a file, to be killed.

    python -m tests.unit.eventlog.child FOLDER run|rotate|finish [CHECKPOINT]

``run`` puts rows and writes them until it is killed, at the checkpoint if one is named; ``rotate`` renames and
reopens the first log under load, then kills itself; ``finish`` writes what is owed and ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcmt.clock import SystemClock
from mcmt.eventlog.writer import EventLogWriter
from mcmt.message.event import Event
from tests.unit.eventlog.support import FileOutbox, delivery, logger

CHECKPOINTS = ("first write", "write", "torn write", "fdatasync", "acknowledge", "acknowledged")


def events_of(sequence: int) -> list[Event]:
    """The events of a row; one to seven."""
    return [delivery(10 * sequence + number) for number in range(1 + sequence % 7)]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(outbox: FileOutbox, checkpoint: str) -> None:
    """Kill this process at the checkpoint: at its first or its fiftieth time."""
    count = 0

    def on(turn: int) -> bool:
        nonlocal count
        count += 1
        return count == turn

    def before(call: Callable[..., Any], turn: int) -> Callable[..., Any]:
        return lambda *given: kill() if on(turn) else call(*given)

    pwrite, acknowledge = os.pwrite, outbox.acknowledge

    def torn(descriptor: int, data: memoryview, start: int) -> int:
        if on(50):
            pwrite(descriptor, data[: len(data) // 2], start)
            kill()
        return pwrite(descriptor, data, start)

    async def acknowledged(*given: Any) -> None:
        await acknowledge(*given)
        if on(50):
            kill()

    if checkpoint == "acknowledged":
        setattr(outbox, "acknowledge", acknowledged)  # noqa: B010 - mypy takes no assignment to a method
    elif checkpoint == "acknowledge":
        outbox.on_acknowledge = before(lambda: None, 50)
    else:
        name, replacement = {
            "first write": ("pwrite", before(pwrite, 1)),
            "write": ("pwrite", before(pwrite, 51)),
            "torn write": ("pwrite", torn),
            "fdatasync": ("fdatasync", before(os.fdatasync, 50)),
        }[checkpoint]
        setattr(os, name, replacement)


async def main(folder: Path, what: str, checkpoint: str = "") -> None:
    outbox = FileOutbox(folder / "outbox.sqlite")
    _arm(outbox, checkpoint) if checkpoint else None
    first, second = folder / "one.ec", folder / "two.ec"
    loggers = [logger(first, "apn_logger.one"), logger(second, "apn_logger.two", "%d %i")]
    writer = EventLogWriter(outbox, loggers, SystemClock(), print)
    await writer.start()
    print("writing", flush=True)
    turn = 0
    while what != "finish":
        for _ in range(20):
            outbox.put(events_of(outbox.next_sequence()))
        writer.wake()
        await asyncio.sleep(0)
        turn += 1
        if what == "rotate" and turn % 10 == 0:
            first.rename(folder / f"one.ec.{turn:04}")
            task = asyncio.create_task(writer.reopen())
            if turn == 60:
                await asyncio.sleep(0)
                kill()
            for _ in range(20):
                outbox.put(events_of(outbox.next_sequence()))
            await task
            assert first.exists()
        if turn % 25 == 0:
            await writer.flushed()
    await writer.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
