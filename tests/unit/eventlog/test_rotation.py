"""Rotation in good days and bad ones: no line lost, none doubled, none torn, and writing never stops for it."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcmt.config.settings import RotateSettings
from mcmt.errors import EventLogError
from mcmt.eventlog import compression
from mcmt.eventlog.loggers import EventLogger
from mcmt.eventlog.names import next_name
from mcmt.eventlog.writer import EventLogWriter
from tests.unit.eventlog.support import Bench, delivery, lines, logger, rotated_files, until, whole_text

DAY = 86400.0
PLAIN = RotateSettings(size=None, every=None, keep=None, compress="none")
DAILY = RotateSettings(size=None, every=DAY, keep=None, compress="none")
TO_MIDNIGHT = DAY - 1_700_000_000.0 % DAY
"""Seconds from the bench's time."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def rotating(bench: Bench, rotate: RotateSettings | None, **given: Any) -> list[EventLogger]:
    return [logger(bench.path, rotate=rotate, **given)]


async def put(bench: Bench, writer: EventLogWriter, *numbers: int) -> None:
    """Have these events written, a burst for each."""
    for number in numbers:
        bench.outbox.put([delivery(number)])
        await writer.flushed()


def names(bench: Bench) -> list[str]:
    return [file.name.removeprefix("log.ec-") for file in rotated_files(bench.path)]


async def test_a_full_file_is_compressed_and_a_new_one_begun(bench: Bench) -> None:
    line = len(lines(delivery(100)))
    rotate = RotateSettings(size=3 * line, every=None, keep=None)
    writer = await bench.writer(rotating(bench, rotate))
    await put(bench, writer, *range(100, 110))
    await until(lambda: all(file.suffix == ".gz" for file in rotated_files(bench.path)))
    assert [gzip.decompress(file.read_bytes()).count(b"\n") for file in rotated_files(bench.path)] == [3, 3, 3]
    assert bench.text() == lines(delivery(109))
    assert whole_text(bench.path) == lines(*map(delivery, range(100, 110)))
    assert bench.told == []
    await writer.stop()


async def test_a_line_is_never_torn_across_files_and_a_burst_never_parted(bench: Bench) -> None:
    writer = await bench.writer(rotating(bench, RotateSettings(size=100, every=None, keep=None, compress="none")))
    every = [delivery(number) for number in range(400)]
    for start in range(0, 400, 40):
        bench.outbox.put(every[start : start + 40])
        await writer.flushed()
    await writer.stop()
    assert [file.read_text().count("\n") for file in rotated_files(bench.path)] == [40] * 10
    assert whole_text(bench.path) == lines(*every)


async def test_at_midnight_a_new_file_is_begun_before_the_first_line_of_the_day(bench: Bench) -> None:
    writer = await bench.writer(rotating(bench, DAILY))
    await put(bench, writer, 1)
    bench.clock.advance(TO_MIDNIGHT - 1)
    await put(bench, writer, 2)
    assert names(bench) == []
    bench.clock.jump(1.5)  # no timer has run yet
    await put(bench, writer, 3)
    assert names(bench) == ["20231115T000000Z"]
    assert bench.text() == lines(delivery(3))
    await writer.stop()


async def test_a_file_ends_at_midnight_though_nothing_happens(bench: Bench) -> None:
    writer = await bench.writer(rotating(bench, DAILY))
    await put(bench, writer, 1)
    await put(bench, writer, 2)  # in a round of its own, after the one in which the file's age was found
    for day in (15, 16):
        bench.clock.advance(TO_MIDNIGHT if day == 15 else DAY)
        await until(lambda: bench.path.stat().st_size == 0)
    # Of the empty file of the second day nothing was made.
    assert names(bench) == ["20231115T000000Z"]
    assert rotated_files(bench.path)[0].read_text() == lines(delivery(1), delivery(2))
    await writer.stop()


async def test_a_file_of_yesterday_is_rotated_at_the_start_and_one_of_today_is_not(bench: Bench) -> None:
    await bench.write_all(delivery(1), loggers=rotating(bench, DAILY, text="%t@%i"))
    bench.clock.advance(3600)
    await bench.write_all(delivery(2), loggers=rotating(bench, DAILY, text="%t@%i"))
    assert names(bench) == []
    bench.clock.advance(DAY)
    await bench.write_all(delivery(3), loggers=rotating(bench, DAILY, text="%t@%i"))
    assert names(bench) == ["20231115T231320Z"]
    assert bench.text() == lines(delivery(3), text="%t@%i")
    bench.clock.advance(1)
    await bench.write_all(delivery(4), loggers=rotating(bench, DAILY, text="%i"))
    assert names(bench) == ["20231115T231320Z"]


async def test_what_a_crash_left_owed_is_finished_before_the_file_is_rotated(bench: Bench) -> None:
    await bench.write_all(delivery(1), loggers=rotating(bench, DAILY, text="%t@%i"))
    bench.outbox.put([delivery(2), delivery(3)])
    with bench.path.open("a") as file:
        file.write(lines(delivery(2), text="%t@%i") + "17000")
    bench.clock.advance(2 * DAY)
    await bench.write_all(delivery(4), loggers=rotating(bench, DAILY, text="%t@%i"))
    (old,) = rotated_files(bench.path)
    assert lines(*map(delivery, (1, 2, 3)), text="%t@%i") in old.read_text()
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3, 4)), text="%t@%i")


async def test_a_clock_that_was_set_far_ahead_and_back_does_not_stop_the_days(bench: Bench) -> None:
    writer = await bench.writer(rotating(bench, DAILY))
    await put(bench, writer, 1, 2)
    bench.clock.jump(1000 * DAY)
    await put(bench, writer, 3)
    bench.clock.jump(-1000 * DAY)
    await put(bench, writer, 4)
    bench.clock.advance(TO_MIDNIGHT)
    await until(lambda: len(names(bench)) == 2)
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3, 4)))
    await writer.stop()


async def test_only_the_youngest_files_are_kept_and_nothing_else_is_deleted(bench: Bench) -> None:
    others = ["log.ec.1", "log.ec-20200101", "other.ec-20200101T000000Z", "log.ec-20200101T000000Z.bak"]
    for name in others:
        (bench.folder / name).write_text("precious")
    for name in ("log.ec-20200101T000000Z", "log.ec-20200102T000000Z.gz"):
        (bench.folder / name).write_bytes(gzip.compress(b"old") if name.endswith("gz") else b"old")
    rotate = RotateSettings(size=1, every=None, keep=3)
    writer = await bench.writer(rotating(bench, rotate))
    await until(lambda: (bench.folder / "log.ec-20200101T000000Z.gz").exists())
    await put(bench, writer, 1)
    await until(lambda: names(bench)[2:] == ["20231114T221320Z.gz"])
    assert names(bench)[:2] == ["20200101T000000Z.gz", "20200102T000000Z.gz"]
    await put(bench, writer, 2, 3, 4)
    await until(lambda: names(bench) == [f"20231114T22132{second}Z.gz" for second in (1, 2, 3)])
    assert whole_text(bench.path) == lines(*map(delivery, (2, 3, 4)))
    assert [(bench.folder / name).read_text() for name in others] == ["precious"] * 4
    await writer.stop()


async def test_by_hand_one_log_or_all_of_them(bench: Bench) -> None:
    other = logger(bench.folder / "other.ec", "ec_logger.main")  # has no rotate: it is only renamed
    writer = await bench.writer([*rotating(bench, PLAIN), other])
    await put(bench, writer, 1)
    (one,) = await writer.rotate("apn_logger.one")
    stamp = "20231114T221320Z"
    assert (one.rotated, one.failed) == (f"{bench.path}-{stamp}", False)
    assert bench.text() == ""
    assert other.path.read_text() == lines(delivery(1))
    first, second = await writer.rotate()
    assert (first.rotated, first.reason, first.failed) == (None, "it is empty", False)
    assert second.rotated == f"{other.path}-{stamp}"
    await put(bench, writer, 2)
    (again,) = await writer.rotate("main")
    assert again.rotated == f"{other.path}-20231114T221321Z"
    with pytest.raises(EventLogError, match=r"no logger x; there are: apn_logger\.one, ec_logger\.main"):
        await writer.rotate("x")
    await writer.stop()
    assert whole_text(bench.path) == whole_text(other.path) == lines(delivery(1), delivery(2))
    with pytest.raises(EventLogError, match="not running"):
        await writer.rotate()


def refusing(name: str, monkeypatch: pytest.MonkeyPatch, chosen: Callable[..., bool]) -> list[str]:
    """Have os.*name* fail for the calls *chosen*; returns what was refused."""
    real, refused = getattr(os, name), []

    def call(*given: Any, **named: Any) -> Any:
        if chosen(*given):
            refused.append(name)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given, **named)

    monkeypatch.setattr(os, name, call)
    return refused


@pytest.mark.parametrize("what", ["rename", "new file", "folder"])
async def test_a_rotation_that_is_refused_is_told_and_tried_again_and_the_old_file_written_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    writer = await bench.writer(rotating(bench, RotateSettings(size=1, every=None, keep=None, compress="none")))
    with monkeypatch.context() as patch:
        refused = {
            "rename": lambda: refusing("rename", patch, lambda *_: True),
            "new file": lambda: refusing("open", patch, lambda path, flags, *_: bool(flags & os.O_CREAT)),
            "folder": lambda: refusing("fsync", patch, lambda descriptor: stat.S_ISDIR(os.fstat(descriptor).st_mode)),
        }[what]()
        await put(bench, writer, *range(5))
        bench.clock.advance(59)
        await put(bench, writer, 5)
        assert len(refused) == 1
        assert names(bench) == []
        assert bench.text() == lines(*map(delivery, range(6)))
        (by_hand,) = await writer.rotate()
        assert by_hand.failed
        assert f"{bench.path}: cannot be rotated: No space left on device" in by_hand.reason
        assert "written on, and tried again in 60 s" in bench.told[0]
        assert len(bench.told) == len(refused) == 2
    bench.clock.advance(60)
    await until(lambda: names(bench))
    await put(bench, writer, 6)
    await writer.stop()
    assert whole_text(bench.path) == lines(*map(delivery, range(7)))


async def test_when_even_the_old_name_is_refused_the_file_is_written_on_under_the_new_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await bench.writer(rotating(bench, PLAIN))
    await put(bench, writer, 1)
    with monkeypatch.context() as patch:
        refusing("open", patch, lambda path, flags, *_: bool(flags & os.O_CREAT))
        refusing("rename", patch, lambda old, new: "log.ec-" in str(old))
        assert (await writer.rotate())[0].failed
        await put(bench, writer, 2)
        (old,) = rotated_files(bench.path)
        assert old.read_text() == lines(delivery(1), delivery(2))
    (again,) = await writer.rotate()
    assert "a new file is begun" in again.reason
    await put(bench, writer, 3)
    await writer.stop()
    assert bench.text() == lines(delivery(3))
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3)))


async def test_what_has_the_name_already_is_not_overwritten(bench: Bench) -> None:
    writer = await bench.writer(rotating(bench, PLAIN))
    await put(bench, writer, 1)
    precious = next_name(bench.path, (), bench.clock.time())
    precious.symlink_to(bench.folder / "nothing")
    assert (await writer.rotate())[0].reason.endswith("File exists")
    assert precious.is_symlink()
    bench.clock.advance(1)
    assert (await writer.rotate())[0].rotated is not None
    await writer.stop()


async def test_a_file_is_not_rotated_before_every_row_in_it_is_acknowledged(bench: Bench) -> None:
    """A crash would look for its lines in a file that is not there any more."""
    broken = bench.folder / "broken.ec"
    writer = await bench.writer([*rotating(bench, DAILY), logger(broken, "apn_logger.broken")])
    await put(bench, writer, 1)
    broken.unlink()
    broken.mkdir()
    bench.outbox.put([delivery(2)])
    writer.wake()
    await until(lambda: bench.text() == lines(delivery(1), delivery(2)))
    bench.clock.jump(DAY)
    (now,) = await writer.rotate("one")
    assert (now.rotated, now.failed) == (None, True)
    assert "not all acknowledged" in now.reason
    bench.outbox.put([delivery(3)])
    writer.wake()
    await until(lambda: bench.text() == lines(*map(delivery, (1, 2, 3))))  # the others' lines are not held up
    assert names(bench) == []
    broken.rmdir()
    bench.clock.advance(30)
    await until(lambda: names(bench))
    await put(bench, writer, 4)
    await writer.stop()
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3, 4)))
    assert broken.read_text() == lines(*map(delivery, (2, 3, 4)))


async def test_nothing_is_compressed_before_the_outbox_knows_the_new_file(bench: Bench) -> None:
    """Until then a start looks for the old one by its inode."""
    writer = await bench.writer(rotating(bench, RotateSettings(size=None, every=None, keep=1)))
    await put(bench, writer, 1)
    bench.outbox.refusing = True
    (done,) = await writer.rotate()
    assert done.rotated is not None
    await until(lambda: bench.told)
    for _ in range(3):
        bench.clock.advance(1)
        await asyncio.sleep(0.01)
    assert names(bench) == ["20231114T221320Z"]
    bench.outbox.refusing = False
    bench.clock.advance(1)
    await until(lambda: names(bench) == ["20231114T221320Z.gz"])
    await writer.stop()


async def test_a_disk_too_full_to_compress_on_is_told_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await bench.writer(rotating(bench, RotateSettings(size=1, every=None)))
    with monkeypatch.context() as patch:
        refusing("write", patch, lambda *_: True)
        await put(bench, writer, 1)
        await until(lambda: bench.told)
        assert "cannot be compressed or deleted: No space left on device; it stays as it is" in bench.told[0]
        assert names(bench) == ["20231114T221320Z"]
    bench.clock.advance(60)
    await until(lambda: names(bench) == ["20231114T221320Z.gz"])
    await writer.stop()
    assert whole_text(bench.path) == lines(delivery(1))


async def test_what_a_crash_left_uncompressed_is_compressed_at_the_start(bench: Bench) -> None:
    for suffix in ("1Z", "2Z", "2Z.gz", "3Z.gz.tmp"):
        whole = gzip.compress(b"2Z\n") if suffix == "2Z.gz" else f"{suffix}\n".encode()
        (bench.folder / f"log.ec-20231114T22132{suffix}").write_bytes(whole)
    writer = await bench.writer(rotating(bench, RotateSettings()))
    await until(lambda: names(bench) == ["20231114T221321Z.gz", "20231114T221322Z.gz"])
    await writer.stop()
    assert whole_text(bench.path) == "1Z\n2Z\n"


async def test_a_compressed_file_keeps_mode_and_time_and_is_on_disk_before_the_plain_one_goes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = bench.folder / "log.ec-20231114T221320Z"
    plain.write_bytes(os.urandom(1_000_000))
    content = plain.read_bytes()
    plain.chmod(0o640)
    os.utime(plain, (1_600_000_000, 1_600_000_000))
    calls: list[str] = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            calls.append(name)
            return real(*given, **named)

        return call

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    assert compression.compress(plain, lambda _: False)
    assert calls[:4] == ["fsync", "replace", "fsync", "unlink"]
    packed = plain.with_name(f"{plain.name}.gz")
    assert gzip.decompress(packed.read_bytes()) == content
    assert stat.S_IMODE(packed.stat().st_mode) == 0o640
    assert packed.stat().st_mtime == 1_600_000_000
    assert not plain.exists()


async def test_stopping_does_not_wait_for_a_large_file_to_be_compressed(bench: Bench) -> None:
    plain = bench.folder / "log.ec-20231114T221320Z"
    with plain.open("wb") as file:
        file.truncate(20_000_000_000)  # sparse: a minute of work
    writer = await bench.writer(rotating(bench, RotateSettings()))
    await until(lambda: len(names(bench)) == 2)
    async with asyncio.timeout(2):
        await writer.stop()
    await until(lambda: names(bench) == ["20231114T221320Z"])
    assert plain.stat().st_size == 20_000_000_000


async def test_one_file_is_compressed_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_others_may_rotate_too(bench: Bench) -> None:
    """logrotate renames and sends SIGHUP; what it renamed is its own."""
    writer = await bench.writer(rotating(bench, RotateSettings(size=100, every=None, keep=1)))
    await put(bench, writer, 1)
    theirs = bench.folder / "log.ec.1"
    bench.path.rename(theirs)
    await writer.reopen()
    await put(bench, writer, 2)
    assert bench.text() == lines(delivery(2))
    bench.path.rename(bench.folder / "log.ec.2")
    (done,) = await writer.rotate()  # without a signal
    assert "others had renamed it" in done.reason
    await put(bench, writer, *range(3, 20))
    await until(lambda: len(names(bench)) == 1 and names(bench)[0].endswith(".gz"))
    await writer.stop()
    assert theirs.read_text() == lines(delivery(1))


async def test_a_log_behind_a_link_is_rotated_where_it_is_and_the_link_stays(bench: Bench) -> None:
    disk = bench.folder / "disk"
    disk.mkdir()
    bench.path.symlink_to(disk / "real.ec")
    writer = await bench.writer(rotating(bench, PLAIN))
    await put(bench, writer, 1)
    (done,) = await writer.rotate()
    assert done.rotated == f"{disk}/real.ec-20231114T221320Z"
    await put(bench, writer, 2)
    await writer.stop()
    assert bench.path.is_symlink()
    assert whole_text(disk / "real.ec") == lines(delivery(1), delivery(2))


async def test_a_bug_in_rotation_does_not_stop_the_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr("mcmt.eventlog.rotation.next_name", broken)
    writer = await bench.writer(rotating(bench, RotateSettings(size=1, every=None)))
    await put(bench, writer, *range(5))
    await writer.stop()
    assert bench.text() == lines(*map(delivery, range(5)))
    assert len(bench.told) == 1
    assert "cannot be rotated: ZeroDivisionError" in bench.told[0]
