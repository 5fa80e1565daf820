"""An upgrade after a kill -9: the positions that stood in the shard are carried over, and each line is written once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import msgspec
import pytest

from mcmt.clock import SystemClock
from mcmt.errors import SpoolUnusable
from mcmt.eventlog.writer import EventLogWriter
from mcmt.message.event import Remembered
from mcmt.spool import schema
from mcmt.spool.log_memory import StoredLogMemory
from mcmt.spool.sqlite import SHARD, open_spool
from mcmt.spool.state import StateStore
from tests.unit.eventlog.support import delivery, lines, logger

HERE = Path(__file__).parent
KILLED = """
import os, signal, sys
from pathlib import Path
from mcmt.spool import upgrade
upgrade.open_writer = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
upgrade.upgrade(Path(sys.argv[1]))
"""


def old_shard(folder: Path, version: int) -> Path:
    """A shard of that version: five rows, of which two are acknowledged, and where two logs ended then."""
    folder.mkdir(mode=0o700)
    path = folder / SHARD
    old = apsw.Connection(str(path))
    old.execute("PRAGMA journal_mode=WAL")
    old.execute((HERE / f"version_{version}.sql").read_text())
    old.pragma("application_id", schema.APPLICATION)
    old.pragma("user_version", version)
    for number in range(1, 6):
        old.execute("INSERT INTO outbox (events) VALUES (?)", (msgspec.msgpack.encode([delivery(number)]),))
    old.execute("DELETE FROM outbox WHERE sequence <= 2")
    old.close()
    return path


def remember(path: Path, log: Path, name: str, offset: int) -> None:
    old = apsw.Connection(str(path))
    old.execute("INSERT INTO position VALUES (?, ?, ?)", (name, log.stat().st_ino, offset))
    old.close()


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("version", [1, 2])
async def test_an_upgrade_after_a_kill_writes_each_line_once(tmp_path: Path, version: int, killed: bool) -> None:
    path = old_shard(tmp_path / "spool", version)
    one, two = tmp_path / "one.ec", tmp_path / "two.ec"
    # The kill came between the writing and the acknowledgement: one log has two lines more, one has torn one.
    one.write_text(lines(*map(delivery, range(1, 5))))
    two.write_text(lines(*map(delivery, range(1, 4)))[:-5])
    for log, name in ((one, "one"), (two, "two")):
        remember(path, log, name, len(lines(delivery(1), delivery(2))))
    if killed:
        command = [sys.executable, "-c", KILLED, str(path)]
        ended = await asyncio.to_thread(subprocess.run, command, check=False, cwd=HERE.parents[2])
        assert ended.returncode == -signal.SIGKILL
        assert apsw.Connection(str(path)).pragma("user_version") == version

    spool = await open_spool(tmp_path / "spool")
    state = StateStore.open(tmp_path / "spool")
    told: list[str] = []
    writer = EventLogWriter(
        StoredLogMemory(state), [logger(one, "one"), logger(two, "two")], SystemClock(), told.append
    )
    writer.add("0", spool)
    await writer.start()
    await writer.stop()
    await spool.close()
    state.close()
    every = lines(*map(delivery, range(1, 6)))
    assert (one.read_text(), two.read_text(), told) == (every, every, [])
    again = apsw.Connection(str(path))
    assert again.pragma("user_version") == schema.VERSION
    assert again.execute("SELECT name FROM sqlite_schema WHERE name = 'position'").get is None
    assert again.execute("SELECT count(*) FROM outbox").get == 0
    again.close()


def memory(folder: Path) -> dict[str, Remembered]:
    state = StateStore.open(folder)
    found = dict(StoredLogMemory(state).load())
    state.close()
    return found


async def test_what_was_acknowledged_is_known_also_of_an_outbox_that_was_emptied(tmp_path: Path) -> None:
    path = old_shard(tmp_path / "spool", 2)
    old = apsw.Connection(str(path))
    old.execute("INSERT INTO position VALUES ('one', 7, 70)")
    old.execute("DELETE FROM outbox")
    old.close()
    spool = await open_spool(tmp_path / "spool")
    await spool.close()
    assert memory(tmp_path / "spool") == {"one": Remembered("one", 7, 70, {"0": 5})}


async def test_an_upgraded_shard_is_not_carried_over_again(tmp_path: Path) -> None:
    path = old_shard(tmp_path / "spool", 2)
    old = apsw.Connection(str(path))
    old.execute("INSERT INTO position VALUES ('one', 7, 70)")
    old.close()
    await (await open_spool(tmp_path / "spool")).close()
    state = StateStore.open(tmp_path / "spool")
    StoredLogMemory(state).save([Remembered("one", 8, 80, {"0": 3, "1": 9}, b"\0" * 16)])
    state.close()
    await (await open_spool(tmp_path / "spool")).close()
    assert memory(tmp_path / "spool") == {"one": Remembered("one", 8, 80, {"0": 3, "1": 9}, b"\0" * 16)}


async def test_a_shard_of_a_version_that_we_do_not_know_is_left_alone(tmp_path: Path) -> None:
    path = old_shard(tmp_path / "spool", 2)
    old = apsw.Connection(str(path))
    old.pragma("user_version", schema.VERSION + 1)
    old.close()
    with pytest.raises(SpoolUnusable, match="run the mcmt that wrote it"):
        await open_spool(tmp_path / "spool")
    assert not (tmp_path / "spool" / "state.sqlite").exists()
