"""A disk that cannot be written fails what is asked for, leaves nothing half done, and is tried again."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from mcmt.errors import SpoolError
from mcmt.message.event import Kind
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from tests.support.manual_clock import ManualClock
from tests.unit.spool.samples import accept, events, finish, pull


@contextmanager
def full_disk(at: int) -> Iterator[None]:
    """No file of this process grows past *at* bytes: writes fail as on a full disk (setrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class BrokenDisk(apsw.VFS):
    """A disk whose syncs or writes fail while it is broken."""

    def __init__(self) -> None:
        super().__init__("broken", base="unix", makedefault=True)
        self.sync = False
        self.write = False

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's
        return BrokenFile(self, name, flags)


class BrokenFile(apsw.VFSFile):
    def __init__(self, disk: BrokenDisk, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's
        if self._disk.sync:
            raise apsw.IOError("sync")
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's
        if self._disk.write:
            raise apsw.FullError("write")
        super().xWrite(data, offset)


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[BrokenDisk]:
    broken = BrokenDisk()
    try:
        yield broken
    finally:
        broken.unregister()


async def test_a_full_disk_refuses_and_recovers(spool: SqliteSpool, tmp_path: Path) -> None:
    kept = [await accept(spool)]
    with full_disk((tmp_path / "spool" / f"{SHARD}-wal").stat().st_size + 200_000):
        results = [
            result
            for _ in range(30)
            for result in await asyncio.gather(
                *[accept(spool, content=b"x" * 2000) for _ in range(10)], return_exceptions=True
            )
        ]
        refused = [result for result in results if isinstance(result, BaseException)]
        kept += [result for result in results if isinstance(result, str)]
        assert refused
        assert all(type(error) is SpoolError and SHARD in str(error) and "disk" in str(error) for error in refused)
        assert [one.sender.batch_id for one in await pull(spool, limit=1000)] == kept
    later = await accept(spool)
    (found,) = await pull(spool)
    assert found.sender.batch_id == later
    await finish(spool, [found])
    assert sorted(one.id for one in await events(spool) if one.kind == Kind.RECEPTION) == sorted(
        f"{batch}-1" for batch in [*kept, later]
    )


@pytest.mark.parametrize("what", ["sync", "write"])
async def test_a_failing_call_fails_its_transaction_alone(disk: BrokenDisk, tmp_path: Path, what: str) -> None:
    spool = await open_spool(tmp_path / "spool")
    batch = await accept(spool, 2)
    found = await pull(spool)
    setattr(disk, what, True)
    await spool.acknowledge(0)
    results = await asyncio.gather(accept(spool), finish(spool, found), return_exceptions=True)
    assert [type(result) for result in results] == [SpoolError] * 2
    setattr(disk, what, False)
    # They are still out, and can be settled now.
    assert await pull(spool) == []
    assert len(await spool.find(batch)) == 2
    await finish(spool, found)
    assert [one.kind for one in await events(spool)] == [Kind.RECEPTION, Kind.DELIVERY, Kind.DELIVERY]
    await accept(spool)
    await spool.close()
    again = await open_spool(tmp_path / "spool")
    assert len(await pull(again)) == 1
    await again.close()


async def test_after_a_failed_sync_nothing_is_kept_until_everything_was_written_anew(
    disk: BrokenDisk, tmp_path: Path
) -> None:
    """The next sync of the same WAL would succeed without the disk having what the failed one left out."""
    wal = tmp_path / "spool" / f"{SHARD}-wal"
    spool = await open_spool(tmp_path / "spool")
    kept = [await accept(spool, content=b"x" * 5000) for _ in range(20)]
    grown = wal.stat().st_size
    disk.sync = True
    for _ in range(3):
        with pytest.raises(SpoolError, match="Check the disk"):
            await accept(spool)
    disk.sync = False
    kept.append(await accept(spool))
    assert wal.stat().st_size < grown / 2, "the WAL goes on"
    assert b"x" * 2000 in (tmp_path / "spool" / SHARD).read_bytes()
    assert [one.sender.batch_id for one in await pull(spool, limit=100)] == kept
    await spool.close()


async def test_rows_that_cannot_be_let_go_are_let_go_when_the_disk_is_back(disk: BrokenDisk, tmp_path: Path) -> None:
    clock = ManualClock()
    spool = await open_spool(tmp_path / "spool", clock)
    await accept(spool)
    (row,) = await spool.read_outbox(0, 10)
    disk.write = True
    await spool.acknowledge(row.sequence)
    with pytest.raises(SpoolError):
        await accept(spool)
    disk.write = False
    async with asyncio.timeout(10):
        while await spool.read_outbox(0, 10):
            clock.advance(1)
            await asyncio.sleep(0.02)
    await spool.close()
