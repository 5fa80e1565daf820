"""The power fails: of what was not fsynced nothing is sure, and still no 250 is broken and no line lost or doubled.

The journal's own tests come first: it must see every write of the engine's, and it must find planted bugs.
"""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.cuts import cut
from tests.crash.stage import LONG, Stage

CUTS = 200 if LONG else 15
LOGS = {"ec_logger": {"ec_logger1": {"mainlog": "logs/mainlog.ec", "rotate": {"keep": "all", "compress": "gzip"}}}}


def run(stage: Stage, seconds: float, forget: str = "", rotations: int = 1) -> None:
    """Under load for a while, with rotations of the logs; then every process is killed at once."""
    stage.start(forget)
    with stage.load():
        for _ in range(rotations):
            time.sleep(seconds / (rotations + 1))
            subprocess.run(stage.process.command("log", "rotate"), check=True, capture_output=True)
        time.sleep(seconds / (rotations + 1))
        stage.kill()
    assert len(stage.accepted) > 20


def test_the_journal_sees_everything_that_the_engine_writes(tmp_path: Path, shim: Path, stanza: dict[str, Any]) -> None:
    """What is rebuilt from it, were all of it on disk, is the disk byte for byte."""
    stage = Stage(tmp_path / "engine", stanza, shim, **LOGS)
    run(stage, 1.0)
    disk = stage.disk
    disk.replay(disk.records(), random.Random(0))
    left = disk.all()
    there = {
        str(path): path.read_bytes()
        for name in disk.watched
        for path in (disk.root / name).rglob("*")
        if path.is_file()
    }
    assert {path: left.contents[inode] for path, inode in left.names.items() if inode} == {
        path: content for path, content in there.items() if not path.endswith("-shm")
    }
    assert any(path.endswith(".gz") for path in there)
    assert set(disk.notes) == set(stage.accepted)


def test_no_250_is_broken_and_no_line_lost_or_doubled(tmp_path: Path, shim: Path, stanza: dict[str, Any]) -> None:
    seed = random.randrange(2**32)
    stage = Stage(tmp_path / "engine", stanza, shim, **LOGS)
    run(stage, 1.5)
    for moment in cut(stage.disk, stage.process.config, CUTS, seed):
        assert moment.found.well, f"seed {seed}, record {moment.record}: {moment.found}"
    assert moment.promised == len(stage.accepted)


@pytest.mark.parametrize("forget", ["spool/shard-", "/logs/", "/logs$", "/spool$"])
def test_a_sync_that_is_left_out_is_found(tmp_path: Path, shim: Path, stanza: dict[str, Any], forget: str) -> None:
    """Mail is lost by the same cuts, of an engine with a planted bug: a file's syncs or its folder's are left out."""
    stage = Stage(tmp_path / "engine", stanza, shim, **LOGS)
    run(stage, 1.0, forget)
    assert any(moment.found.lost for moment in cut(stage.disk, stage.process.config, CUTS, 1))
