"""Files that cannot be written, are renamed, removed or cut while we run: no line lost, none twice."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from mcmt.errors import EventLogError
from mcmt.eventlog.writer import EventLogWriter
from tests.unit.eventlog.support import Bench, delivery, lines, logger, until

FILLING = "old\n" * 500_000
"""Two megabytes: more than the outbox's own file, so that a limit on the size of files meets the log alone."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The kernel takes no byte past *size* of any file, and the first bytes of a write that would pass it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def loggers(bench: Bench) -> tuple[Path, Path]:
    return bench.path, bench.folder / "other.ec"


async def two(bench: Bench) -> EventLogWriter:
    first, second = loggers(bench)
    return await bench.writer([logger(first), logger(second, "apn_logger.two")])


async def test_a_full_disk_loses_nothing_tells_once_and_is_recovered_from(bench: Bench) -> None:
    bench.path.write_text(FILLING)
    writer = await bench.writer()
    with files_up_to(len(FILLING) + 40):
        bench.outbox.put([delivery(1), delivery(2)])
        writer.wake()
        await until(lambda: bench.told)
        assert bench.path.stat().st_size == len(FILLING)
        for number in range(3, 8):
            bench.outbox.put([delivery(number)])
            bench.clock.advance(4)
            await writer_idle(bench)
        assert bench.outbox.depth() == 6
        assert bench.path.stat().st_size == len(FILLING)
    assert len(bench.told) == 1
    assert f"{bench.path}: cannot be written: File too large" in bench.told[0]
    bench.clock.advance(30)
    await writer.flushed()
    assert bench.text() == FILLING + lines(*map(delivery, range(1, 8)))
    assert bench.outbox.depth() == 0
    assert bench.told[1:] == [f"{bench.path}: is written again"]
    await writer.stop()


async def writer_idle(bench: Bench) -> None:
    """The back-off runs again, so the attempt was made."""
    await until(lambda: bench.clock.pending)


async def test_the_delay_doubles_up_to_half_a_minute(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []

    def full(*_: object) -> int:
        attempts.append(bench.clock.monotonic())
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = await bench.writer()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        bench.outbox.put([delivery(1)])
        writer.wake()
        await until(lambda: attempts)
        for _ in range(130):
            await writer_idle(bench)
            bench.clock.advance(1)
        await writer_idle(bench)
    pauses = [round(after - before) for before, after in pairwise(attempts)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert len(bench.told) == 3
    await writer.stop()
    assert bench.text() == lines(delivery(1))


async def test_stop_on_a_full_disk_ends_and_the_next_start_writes_the_rest(bench: Bench) -> None:
    bench.path.write_text(FILLING)
    writer = await bench.writer()
    with files_up_to(len(FILLING) + 40):
        bench.outbox.put([delivery(1), delivery(2)])
        await writer.stop()
    assert bench.outbox.depth() == 1
    await bench.write_all()
    assert bench.text() == FILLING + lines(delivery(1), delivery(2))


async def test_flushed_fails_when_the_writer_stops_before(bench: Bench) -> None:
    bench.path.write_text(FILLING)
    writer = await bench.writer()
    with files_up_to(len(FILLING)):
        bench.outbox.put([delivery(1)])
        waiting = asyncio.ensure_future(writer.flushed())
        await until(lambda: bench.told)
        await writer.stop()
        with pytest.raises(EventLogError, match="stopped before all lines"):
            await waiting


async def test_one_failing_logger_holds_up_no_other_and_rows_go_when_both_have_them(bench: Bench) -> None:
    first, second = loggers(bench)
    first.write_text(FILLING)
    writer = await two(bench)
    with files_up_to(len(FILLING) + 100):
        for number in range(100):
            bench.outbox.put([delivery(number), delivery(number + 1000)])
            writer.wake()
            wanted = lines(*[delivery(n + more) for n in range(number + 1) for more in (0, 1000)])
            await until(lambda: second.read_text() == wanted)  # noqa: B023 - read before the next turn
        assert bench.outbox.depth() > 90
    every = lines(*[delivery(n + more) for n in range(100) for more in (0, 1000)])
    bench.clock.advance(30)
    await writer.flushed()
    assert first.read_text() == FILLING + every
    assert second.read_text() == every
    assert bench.outbox.depth() == 0
    await writer.stop()


async def test_a_crash_while_one_is_ahead_doubles_nothing_for_either(bench: Bench) -> None:
    first, second = loggers(bench)
    first.write_text(FILLING)
    writer = await two(bench)
    with files_up_to(len(FILLING) + 100):
        for number in range(50):
            bench.outbox.put([delivery(number)])
            writer.wake()
            await until(lambda: second.read_text().count("\n") == number + 1)  # noqa: B023 - read before the next turn
        await writer.stop()
    # The rows are all there; the second log remembers that it has them.
    assert bench.outbox.depth() > 40
    writer = await two(bench)
    bench.outbox.put([delivery(50)])
    await writer.stop()
    every = lines(*map(delivery, range(51)))
    assert first.read_text() == FILLING + every
    assert second.read_text() == every
    assert bench.outbox.depth() == 0


async def test_after_a_failed_fdatasync_the_lines_are_written_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    wrote: list[bytes] = []
    pwrite = os.pwrite

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def noted(descriptor: int, data: memoryview, start: int) -> int:
        wrote.append(bytes(data))
        return pwrite(descriptor, data, start)

    monkeypatch.setattr(os, "pwrite", noted)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fails)
        bench.outbox.put([delivery(2)])
        waiting = asyncio.ensure_future(writer.flushed())
        await until(lambda: bench.told)
    assert bench.text() == lines(delivery(1))
    assert bench.outbox.depth() == 1
    bench.clock.advance(1)
    await waiting
    await writer.stop()
    assert wrote == [lines(delivery(2)).encode()] * 2
    assert bench.text() == lines(delivery(1), delivery(2))


async def test_a_cut_that_fails_too_leaves_no_torn_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = await bench.writer()
    pwrite = os.pwrite

    def torn(descriptor: int, data: memoryview, start: int) -> int:
        if len(data) > 20:
            return pwrite(descriptor, data[: len(data) - 10], start)
        raise OSError(errno.EIO, "Input/output error")

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", torn)
        patch.setattr(os, "ftruncate", fails)
        bench.outbox.put([delivery(1)])
        writer.wake()
        await until(lambda: bench.told)
        assert bench.path.stat().st_size > 0
    bench.clock.advance(1)
    await writer.stop()
    assert bench.text() == lines(delivery(1))


async def test_reopen_follows_a_rename_and_no_late_line_is_lost(bench: Bench) -> None:
    writer = await bench.writer()
    rotated = []
    for number in range(30):
        bench.outbox.put([delivery(number)])
        writer.wake()
        if number % 10 == 9:
            rotated.append(bench.folder / f"log.ec.{number}")
            bench.path.rename(rotated[-1])
            bench.outbox.put([delivery(100 + number)])
            await writer.reopen()
            assert bench.path.exists()
            before = rotated[-1].read_text()
            bench.outbox.put([delivery(200 + number)])
            await writer.flushed()
            assert rotated[-1].read_text() == before
            assert lines(delivery(200 + number)) in bench.text()
    await writer.stop()
    every = "".join(path.read_text() for path in [*rotated, bench.path])
    assert every == lines(*[delivery(n + more) for n in range(30) for more in ((0, 100, 200) if n % 10 == 9 else (0,))])
    assert bench.told == []


async def test_reopen_of_a_file_that_was_not_renamed_changes_nothing(bench: Bench) -> None:
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.reopen()
    bench.outbox.put([delivery(2)])
    await writer.stop()
    assert bench.text() == lines(delivery(1), delivery(2))
    assert bench.told == []


async def test_reopen_moves_a_failing_logger_at_once_and_one_that_is_ahead_later(bench: Bench) -> None:
    first, second = loggers(bench)
    first.write_text(FILLING)
    writer = await two(bench)
    with files_up_to(len(FILLING)):
        bench.outbox.put([delivery(1)])
        writer.wake()
        await until(lambda: bench.told and second.read_text() == lines(delivery(1)))
        for path in (first, second):
            path.rename(path.with_suffix(".ec.1"))
        await writer.reopen()
        bench.outbox.put([delivery(2)])
        await writer.flushed()
    await writer.stop()
    assert first.with_suffix(".ec.1").read_text() == FILLING
    assert first.read_text() == lines(delivery(1), delivery(2))
    assert second.with_suffix(".ec.1").read_text() + second.read_text() == lines(delivery(1), delivery(2))


async def test_a_new_file_that_cannot_be_opened_holds_the_lines_back(bench: Bench) -> None:
    writer = await bench.writer()
    folder, moved = bench.folder / "logs", bench.folder / "moved"
    await writer.stop()
    folder.mkdir()
    writer = await bench.writer([logger(folder / "log.ec")])
    folder.rename(moved)
    await writer.reopen()
    bench.outbox.put([delivery(1)])
    writer.wake()
    await until(lambda: bench.told)
    assert bench.outbox.depth() == 1
    folder.mkdir()
    bench.clock.advance(1)
    await writer.flushed()
    await writer.stop()
    assert (folder / "log.ec").read_text() == lines(delivery(1))
    assert (moved / "log.ec").read_text() == ""


async def test_a_file_removed_under_us_is_begun_anew_with_the_next_line(bench: Bench) -> None:
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    bench.path.unlink()
    bench.outbox.put([delivery(2)])
    await writer.flushed()
    await writer.stop()
    assert bench.text() == lines(delivery(2))
    assert bench.told == [f"{bench.path}: was removed; a new one begins"]


async def test_lines_that_were_not_remembered_of_a_file_removed_under_us_stand_in_the_next(bench: Bench) -> None:
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    bench.outbox.put([delivery(2)])
    writer.wake()
    await until(lambda: bench.text() == lines(delivery(1), delivery(2)))
    bench.path.unlink()
    bench.outbox.put([delivery(3)])
    await writer.flushed()
    await writer.stop()
    assert bench.text() == lines(delivery(2), delivery(3))


async def test_a_file_emptied_by_copytruncate_is_gone_on_with(bench: Bench) -> None:
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    os.truncate(bench.path, 0)
    bench.outbox.put([delivery(2)])
    await writer.flushed()
    await writer.stop()
    assert bench.text() == lines(delivery(2))


async def test_lines_of_others_stay_while_we_run(bench: Bench) -> None:
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    with bench.path.open("a") as file:
        file.write("by hand")
    bench.outbox.put([delivery(2)])
    await writer.stop()
    assert bench.text() == lines(delivery(1)) + "by hand\n" + lines(delivery(2))


@pytest.mark.parametrize("harm", ["removed", "emptied", "added to"])
async def test_a_file_that_changed_is_remembered_before_it_is_written(bench: Bench, harm: str) -> None:
    """Else a crash right after the write would find lines past a position that is not this file's."""
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    if harm == "removed":
        bench.path.unlink()
    elif harm == "emptied":
        os.truncate(bench.path, 0)
    else:
        with bench.path.open("a") as file:
            file.write("by hand\n")
    stood: list[str] = []
    bench.memory.before_save = lambda: stood.append(bench.text())
    bench.outbox.put([delivery(2)])
    await writer.flushed()
    await writer.stop()
    assert [lines(delivery(2)) in text for text in stood] == [False, True]


async def test_a_logger_that_is_ahead_follows_a_rename_at_once(bench: Bench) -> None:
    first, second = loggers(bench)
    writer = await two(bench)
    first.unlink()
    first.mkdir()
    bench.outbox.put([delivery(1)])
    writer.wake()
    await until(lambda: bench.told and second.read_text() == lines(delivery(1)))
    rotated = second.with_suffix(".ec.1")
    second.rename(rotated)
    await writer.reopen()
    bench.outbox.put([delivery(2)])
    writer.wake()
    await until(lambda: second.read_text() == lines(delivery(2)))
    assert rotated.read_text() == lines(delivery(1))
    rotated.unlink()  # compressed by now
    first.rmdir()
    bench.clock.advance(30)
    await writer.flushed()
    await writer.stop()
    assert first.read_text() == lines(delivery(1), delivery(2))
    assert second.read_text() == lines(delivery(2))


async def test_while_nothing_can_be_remembered_nothing_more_is_written_and_then_it_goes_on(bench: Bench) -> None:
    """What is not remembered would grow without end, and with it what a start compares."""
    writer = await bench.writer()
    bench.memory.refusing = True
    bench.outbox.put([delivery(1)])
    writer.wake()
    await until(lambda: bench.text() == lines(delivery(1)))
    await until(lambda: bench.clock.pending)
    bench.clock.advance(0.1)
    await until(lambda: bench.told)
    for number in range(2, 5):
        bench.outbox.put([delivery(number)])
        bench.clock.advance(1)
        await writer_idle(bench)
    assert bench.text() == lines(delivery(1))
    assert bench.outbox.depth() == 4
    bench.memory.refusing = False
    bench.clock.advance(1)
    await writer.flushed()
    await writer.stop()
    assert bench.text() == lines(*map(delivery, range(1, 5)))
    (told,) = bench.told
    assert "not remembered, says the test" in told


async def test_the_name_of_a_new_file_is_brought_to_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    await (await bench.writer()).stop()
    assert synced == [bench.folder.stat().st_ino]


async def test_a_folder_that_stays_away_is_told_of_once_and_its_file_begun_when_it_is_back(bench: Bench) -> None:
    folder = bench.folder / "logs"
    folder.mkdir()
    writer = await bench.writer([logger(folder / "log.ec")])
    (folder / "log.ec").unlink()
    folder.rmdir()
    bench.outbox.put([delivery(1)])
    writer.wake()
    await until(lambda: bench.told)
    for _ in range(5):
        await writer_idle(bench)
        bench.clock.advance(30)
    assert [told for told in bench.told if "cannot be written: No such file or directory" in told] == bench.told
    folder.mkdir()
    bench.clock.advance(60)
    await writer.flushed()
    await writer.stop()
    assert (folder / "log.ec").read_text() == lines(delivery(1))
    path = folder / "log.ec"
    assert bench.told[-2:] == [f"{path}: was removed; a new one begins", f"{path}: is written again"]
