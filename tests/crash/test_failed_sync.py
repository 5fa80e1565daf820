"""A sync that failed is never believed again: what it should have brought to disk is written anew, or given up aloud.

After a failed fsync the kernel counts the pages as clean: they are read back as if they were on disk, and the next
fsync of the same file succeeds without them (fsync(2), errors). Whoever goes on from there loses what comes later, too.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.cuts import cut
from tests.crash.stage import LONG, Stage

CUTS = 60 if LONG else 8
FILES = ["spool/shard-0.sqlite-wal", "logs/mainlog.ec"]
if LONG:
    FILES += ["spool/shard-0.sqlite", "spool/state.sqlite-wal", "spool/state.sqlite", "logs/apnlog.ec"]


def failed(stage: Stage) -> int:
    """Wait until the sync that is to fail has failed; the number of its record."""
    deadline = time.monotonic() + 10
    while stage.disk.failure_pending:
        assert time.monotonic() < deadline, "it was never synced"
        time.sleep(0.005)  # another process's file
    time.sleep(0.1)
    (at,) = [number for number, record in enumerate(stage.disk.records()) if record.kind == "X"]
    return at


@pytest.mark.parametrize("path", FILES)
def test_nothing_that_came_after_a_failed_sync_rests_on_it(
    tmp_path: Path, shim: Path, stanza: dict[str, Any], path: str
) -> None:
    seed = random.randrange(2**32)
    stage = Stage(tmp_path / "engine", stanza, shim)
    stage.start()
    with stage.load():
        time.sleep(0.3)
        stage.disk.fail_next_sync(path)
        at = failed(stage)
        before = len(stage.disk.notes_now())
        time.sleep(0.6)
        stage.kill()
    if path == FILES[0]:
        assert stage.refused, "nobody was told that the spool could not be written"
        assert all(answer.startswith(b"451 4.3.0 ") for answer in stage.refused), stage.refused
    assert len(stage.accepted) > before + 10, "the engine did not go on"
    for moment in cut(stage.disk, stage.process.config, CUTS, seed, at):
        assert moment.found.well, f"seed {seed}, record {moment.record}: {moment.found}"


@pytest.mark.parametrize("path", FILES)
def test_nor_when_the_engine_was_killed_before_it_could_do_anything_about_it(
    tmp_path: Path, shim: Path, stanza: dict[str, Any], path: str
) -> None:
    """The next engine finds in the files what is not on the disk, and syncs that succeed for nothing."""
    seed = random.randrange(2**32)
    stage = Stage(tmp_path / "engine", stanza, shim)
    stage.start()
    with stage.load():
        time.sleep(0.3)
        stage.disk.fail_next_sync(path, fatal=True)
        at = failed(stage)
        stage.kill()
    stage.start()
    before = len(stage.accepted)
    with stage.load():
        time.sleep(0.6)
        stage.kill()
    assert len(stage.accepted) > before + 10
    for moment in cut(stage.disk, stage.process.config, CUTS, seed, at):
        assert moment.found.well, f"seed {seed}, record {moment.record}: {moment.found}"
