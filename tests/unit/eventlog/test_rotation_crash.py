"""Killed at any point of a rotation, the log has every line once, over all of its files, and the rest is made good."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mcmt.clock import SystemClock
from mcmt.eventlog.writer import EventLogWriter
from tests.unit.eventlog.child import events_of
from tests.unit.eventlog.rotating_child import CHECKPOINTS, loggers
from tests.unit.eventlog.support import FileMemory, FileOutbox, lines, rotated_files, until, whole_text


def run_until_killed(folder: Path, checkpoint: str) -> None:
    command = [sys.executable, "-m", "tests.unit.eventlog.rotating_child", str(folder), checkpoint]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3]) as child:
        try:
            assert child.wait(20) == -signal.SIGKILL
        finally:
            child.kill()


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
async def test_killed_in_a_rotation_no_line_is_lost_torn_or_doubled(tmp_path: Path, checkpoint: str) -> None:
    log = tmp_path / "one.ec"
    await asyncio.to_thread(run_until_killed, tmp_path, checkpoint)
    left = rotated_files(log)
    assert len(left) >= (2 if checkpoint == "before the rename" else 3)

    outbox = FileOutbox(tmp_path / "outbox.sqlite")
    told: list[str] = []
    memory = FileMemory(tmp_path / "memory.sqlite")
    writer = EventLogWriter(memory, loggers(tmp_path), SystemClock(), told.append)
    writer.add("0", outbox)
    await writer.start()
    await writer.flushed()
    # What the crash left half done is done: all old files compressed, nothing unfinished, none twice.
    await until(lambda: all(file.suffix == ".gz" for file in rotated_files(log)))
    every = [event for sequence in range(1, outbox.next_sequence()) for event in events_of("0", sequence)]
    await writer.stop()
    outbox.close()
    assert sorted(whole_text(log).splitlines()) == sorted(lines(*every).splitlines())
    assert sorted((tmp_path / "two.ec").read_text().splitlines()) == sorted(lines(*every).splitlines())
    assert told == []
