"""Rotation: when a new file is begun, what the old one is called, and what becomes of it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mcmt.config.settings import RotateSettings
from mcmt.errors import EventLogError
from mcmt.eventlog import compression
from mcmt.eventlog.names import next_name
from tests.unit.eventlog.support import RotatingBench, delivery, lines, logger, rotated_files, until, whole_text

DAY = 86400.0
DAILY = RotateSettings(size=None, every=DAY, keep=None, compress="none")
PLAIN = RotateSettings(size=None, every=None, keep=None, compress="none")
TO_MIDNIGHT = DAY - 1_700_000_000.0 % DAY
"""Seconds from the bench's time."""


@pytest.fixture
def bench(tmp_path: Path) -> RotatingBench:
    return RotatingBench(tmp_path)


async def test_a_full_file_is_compressed_and_a_new_one_begun(bench: RotatingBench) -> None:
    line = len(lines(delivery(100)))
    rotate = RotateSettings(size=3 * line, every=None, keep=None)
    writer = await bench.writer(bench.rotating(rotate))
    await bench.put(writer, *range(100, 110))
    await until(lambda: all(file.suffix == ".gz" for file in rotated_files(bench.path)))
    assert [gzip.decompress(file.read_bytes()).count(b"\n") for file in rotated_files(bench.path)] == [3, 3, 3]
    assert bench.text() == lines(delivery(109))
    assert whole_text(bench.path) == lines(*map(delivery, range(100, 110)))
    assert bench.told == []
    await writer.stop()


async def test_a_line_is_never_torn_across_files_and_a_burst_never_parted(bench: RotatingBench) -> None:
    writer = await bench.writer(bench.rotating(RotateSettings(size=100, every=None, keep=None, compress="none")))
    every = [delivery(number) for number in range(400)]
    for start in range(0, 400, 40):
        bench.outbox.put(every[start : start + 40])
        await writer.flushed()
    await writer.stop()
    assert [file.read_text().count("\n") for file in rotated_files(bench.path)] == [40] * 10
    assert whole_text(bench.path) == lines(*every)


async def test_at_midnight_a_new_file_is_begun_before_the_first_line_of_the_day(bench: RotatingBench) -> None:
    writer = await bench.writer(bench.rotating(DAILY))
    await bench.put(writer, 1)
    bench.clock.advance(TO_MIDNIGHT - 1)
    await bench.put(writer, 2)
    assert bench.names() == []
    bench.clock.jump(1.5)  # no timer has run yet
    await bench.put(writer, 3)
    assert bench.names() == ["20231115T000000Z"]
    assert bench.text() == lines(delivery(3))
    await writer.stop()


async def test_a_file_ends_at_midnight_though_nothing_happens(bench: RotatingBench) -> None:
    writer = await bench.writer(bench.rotating(DAILY))
    await bench.put(writer, 1)
    await bench.put(writer, 2)  # in a round of its own, after the one in which the file's age was found
    for day in (15, 16):
        bench.clock.advance(TO_MIDNIGHT if day == 15 else DAY)
        await until(lambda: bench.path.stat().st_size == 0)
    # Of the empty file of the second day nothing was made.
    assert bench.names() == ["20231115T000000Z"]
    assert rotated_files(bench.path)[0].read_text() == lines(delivery(1), delivery(2))
    await writer.stop()


async def test_a_file_of_yesterday_is_rotated_at_the_start_and_one_of_today_is_not(bench: RotatingBench) -> None:
    await bench.write_all(delivery(1), loggers=bench.rotating(DAILY, text="%t@%i"))
    bench.clock.advance(3600)
    await bench.write_all(delivery(2), loggers=bench.rotating(DAILY, text="%t@%i"))
    assert bench.names() == []
    bench.clock.advance(DAY)
    await bench.write_all(delivery(3), loggers=bench.rotating(DAILY, text="%t@%i"))
    assert bench.names() == ["20231115T231320Z"]
    assert bench.text() == lines(delivery(3), text="%t@%i")
    bench.clock.advance(1)
    await bench.write_all(delivery(4), loggers=bench.rotating(DAILY, text="%i"))
    assert bench.names() == ["20231115T231320Z"]


async def test_a_clock_that_was_set_far_ahead_and_back_does_not_stop_the_days(bench: RotatingBench) -> None:
    writer = await bench.writer(bench.rotating(DAILY))
    await bench.put(writer, 1, 2)
    bench.clock.jump(1000 * DAY)
    await bench.put(writer, 3)
    bench.clock.jump(-1000 * DAY)
    await bench.put(writer, 4)
    bench.clock.advance(TO_MIDNIGHT)
    await until(lambda: len(bench.names()) == 2)
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3, 4)))
    await writer.stop()


async def test_only_the_youngest_files_are_kept_and_nothing_else_is_deleted(bench: RotatingBench) -> None:
    others = ["log.ec.1", "log.ec-20200101", "other.ec-20200101T000000Z", "log.ec-20200101T000000Z.bak"]
    for name in others:
        (bench.folder / name).write_text("precious")
    for name in ("log.ec-20200101T000000Z", "log.ec-20200102T000000Z.gz"):
        (bench.folder / name).write_bytes(gzip.compress(b"old") if name.endswith("gz") else b"old")
    rotate = RotateSettings(size=1, every=None, keep=3)
    writer = await bench.writer(bench.rotating(rotate))
    await until(lambda: (bench.folder / "log.ec-20200101T000000Z.gz").exists())
    await bench.put(writer, 1)
    await until(lambda: bench.names()[2:] == ["20231114T221320Z.gz"])
    assert bench.names()[:2] == ["20200101T000000Z.gz", "20200102T000000Z.gz"]
    await bench.put(writer, 2, 3, 4)
    await until(lambda: bench.names() == [f"20231114T22132{second}Z.gz" for second in (1, 2, 3)])
    assert whole_text(bench.path) == lines(*map(delivery, (2, 3, 4)))
    assert [(bench.folder / name).read_text() for name in others] == ["precious"] * 4
    await writer.stop()


async def test_by_hand_one_log_or_all_of_them(bench: RotatingBench) -> None:
    other = logger(bench.folder / "other.ec", "ec_logger.main")  # has no rotate: it is only renamed
    writer = await bench.writer([*bench.rotating(PLAIN), other])
    await bench.put(writer, 1)
    (one,) = await writer.rotate("apn_logger.one")
    stamp = "20231114T221320Z"
    assert (one.rotated, one.failed) == (f"{bench.path}-{stamp}", False)
    assert bench.text() == ""
    assert other.path.read_text() == lines(delivery(1))
    first, second = await writer.rotate()
    assert (first.rotated, first.reason, first.failed) == (None, "it is empty", False)
    assert second.rotated == f"{other.path}-{stamp}"
    await bench.put(writer, 2)
    (again,) = await writer.rotate("main")
    assert again.rotated == f"{other.path}-20231114T221321Z"
    with pytest.raises(EventLogError, match=r"no logger x; there are: apn_logger\.one, ec_logger\.main"):
        await writer.rotate("x")
    await writer.stop()
    assert whole_text(bench.path) == whole_text(other.path) == lines(delivery(1), delivery(2))
    with pytest.raises(EventLogError, match="not running"):
        await writer.rotate()


async def test_one_file_is_compressed_at_a_time(bench: RotatingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[Path] = []
    most = 0
    compress = compression.compress

    def watched(plain: Path, rest: Callable[[float], bool]) -> bool:
        nonlocal most
        running.append(plain)
        most = max(most, len(running))
        done = compress(plain, rest)
        running.remove(plain)
        return done

    monkeypatch.setattr(compression, "compress", watched)
    paths = [bench.folder / f"{number}.ec" for number in range(4)]
    for path in paths:
        next_name(path, (), 1e9).write_bytes(os.urandom(2_000_000))
    writer = await bench.writer([logger(path, f"apn_logger.{path.stem}", rotate=RotateSettings()) for path in paths])
    await until(lambda: all(rotated_files(path)[0].suffix == ".gz" for path in paths))
    await writer.stop()
    assert most == 1


async def test_a_log_behind_a_link_is_rotated_where_it_is_and_the_link_stays(bench: RotatingBench) -> None:
    disk = bench.folder / "disk"
    disk.mkdir()
    bench.path.symlink_to(disk / "real.ec")
    writer = await bench.writer(bench.rotating(PLAIN))
    await bench.put(writer, 1)
    (done,) = await writer.rotate()
    assert done.rotated == f"{disk}/real.ec-20231114T221320Z"
    await bench.put(writer, 2)
    await writer.stop()
    assert bench.path.is_symlink()
    assert whole_text(disk / "real.ec") == lines(delivery(1), delivery(2))
