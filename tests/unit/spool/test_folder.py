"""The folder is ours alone, one engine holds it, and what cannot be used is refused with what to do."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import apsw
import pytest

from mcmt.errors import SpoolLocked, SpoolUnusable
from mcmt.spool import schema
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from mcmt.spool.state import StateStore
from tests.unit.spool.samples import accept

HOLDER = """
import asyncio, sys
from pathlib import Path
from mcmt.spool.sqlite import open_spool
async def main():
    await open_spool(Path(sys.argv[1]))
    print("open", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_folder_and_files_are_ours_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = await open_spool(tmp_path / "a" / "spool")
        await accept(spool)
        state = StateStore.open(tmp_path / "a" / "spool")
        state.put("key", b"value")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a" / "spool") == 0o700
    names = {path.name: mode(path) for path in (tmp_path / "a" / "spool").iterdir()}
    assert set(names.values()) == {0o600}
    assert {"lock", "state.sqlite", SHARD, f"{SHARD}-wal"} <= set(names)
    state.close()
    await spool.close()


async def test_an_open_folder_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    await (await open_spool(tmp_path / "spool")).close()
    assert mode(tmp_path / "spool") == 0o700


async def test_an_open_folder_with_other_things_in_it_stays_as_it_is(tmp_path: Path) -> None:
    """Started as root with spool.path: /tmp, it must not close /tmp to everybody."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    (shared / "of-others").write_text("")
    with pytest.raises(SpoolUnusable, match=r"shared holds other things \(of-others\).*spool\.path"):
        await open_spool(shared)
    assert mode(shared) == 0o755
    assert [path.name for path in shared.iterdir()] == ["of-others"]


async def test_a_file_system_of_its_own_is_taken(tmp_path: Path) -> None:
    (tmp_path / "spool" / "lost+found").mkdir(parents=True)
    await (await open_spool(tmp_path / "spool")).close()
    (tmp_path / "spool").chmod(0o755)  # by hand: it is still a spool
    await (await open_spool(tmp_path / "spool")).close()
    assert mode(tmp_path / "spool") == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    os.chown(tmp_path / "spool", 12345, 12345)
    with pytest.raises(SpoolUnusable, match=r"spool belongs to user id 12345.*chown"):
        await open_spool(tmp_path / "spool")


async def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolUnusable, match=f"{tmp_path}/spool is not a folder"):
        await open_spool(tmp_path / "spool")
    with pytest.raises(SpoolUnusable, match=f"{tmp_path}/spool/below"):
        await open_spool(tmp_path / "spool" / "below")


async def test_a_folder_that_cannot_be_written_is_refused() -> None:
    # /proc refuses even root.
    with pytest.raises(SpoolUnusable, match="/proc/spool"):
        await open_spool(Path("/proc/spool"))


async def test_a_second_engine_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(tmp_path / "spool"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert first.stdout is not None
        assert await first.stdout.readline() == b"open\n"
        with pytest.raises(SpoolLocked, match=rf"pid {first.pid};"):
            await open_spool(tmp_path / "spool")
    finally:
        first.kill()
        await first.wait()
    # The lock goes with the process, however that ended.
    await (await open_spool(tmp_path / "spool")).close()


async def test_one_process_cannot_open_it_twice(spool: SqliteSpool, tmp_path: Path) -> None:
    with pytest.raises(SpoolLocked, match=rf"pid {os.getpid()};"):
        await open_spool(tmp_path / "spool")


async def test_a_newer_schema_is_refused(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.close()
    file = apsw.Connection(str(tmp_path / "spool" / SHARD))
    file.pragma("user_version", schema.VERSION + 1)
    file.close()
    with pytest.raises(SpoolUnusable, match=rf"{SHARD} has schema version {schema.VERSION + 1} and this mcmt"):
        await open_spool(tmp_path / "spool")
    # What was refused holds no lock.
    with pytest.raises(SpoolUnusable, match="schema version"):
        await open_spool(tmp_path / "spool")


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
async def test_a_file_that_is_not_a_spool_is_refused(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    path = tmp_path / "spool" / SHARD
    if content is None:
        other = apsw.Connection(str(path))
        other.execute("CREATE TABLE other (a)")
        other.close()
    else:
        path.write_bytes(content)
    with pytest.raises(SpoolUnusable, match=str(path)):
        await open_spool(tmp_path / "spool")


async def test_an_sqlite_that_can_damage_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    with pytest.raises(SpoolUnusable, match=r"3\.51\.3 or later"):
        await open_spool(tmp_path / "spool")
