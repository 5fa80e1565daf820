"""Rotation in bad days: no line lost, none doubled, none torn, and writing never stops for it."""

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
from mcmt.eventlog import compression
from mcmt.eventlog.names import next_name
from tests.unit.eventlog.support import RotatingBench, delivery, lines, logger, rotated_files, until, whole_text

DAY = 86400.0
DAILY = RotateSettings(size=None, every=DAY, keep=None, compress="none")
PLAIN = RotateSettings(size=None, every=None, keep=None, compress="none")


@pytest.fixture
def bench(tmp_path: Path) -> RotatingBench:
    return RotatingBench(tmp_path)


async def test_what_a_crash_left_owed_is_finished_before_the_file_is_rotated(bench: RotatingBench) -> None:
    await bench.write_all(delivery(1), loggers=bench.rotating(DAILY, text="%t@%i"))
    bench.outbox.put([delivery(2), delivery(3)])
    with bench.path.open("a") as file:
        file.write(lines(delivery(2), text="%t@%i") + "17000")
    bench.clock.advance(2 * DAY)
    await bench.write_all(delivery(4), loggers=bench.rotating(DAILY, text="%t@%i"))
    (old,) = rotated_files(bench.path)
    assert lines(*map(delivery, (1, 2, 3)), text="%t@%i") in old.read_text()
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3, 4)), text="%t@%i")


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
    bench: RotatingBench, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    writer = await bench.writer(bench.rotating(RotateSettings(size=1, every=None, keep=None, compress="none")))
    with monkeypatch.context() as patch:
        refused = {
            "rename": lambda: refusing("rename", patch, lambda *_: True),
            "new file": lambda: refusing("open", patch, lambda path, flags, *_: bool(flags & os.O_CREAT)),
            "folder": lambda: refusing("fsync", patch, lambda descriptor: stat.S_ISDIR(os.fstat(descriptor).st_mode)),
        }[what]()
        await bench.put(writer, *range(5))
        bench.clock.advance(59)
        await bench.put(writer, 5)
        assert len(refused) == 1
        assert bench.names() == []
        assert bench.text() == lines(*map(delivery, range(6)))
        (by_hand,) = await writer.rotate()
        assert by_hand.failed
        assert f"{bench.path}: cannot be rotated: No space left on device" in by_hand.reason
        assert "written on, and tried again in 60 s" in bench.told[0]
        assert len(bench.told) == len(refused) == 2
    bench.clock.advance(60)
    await until(lambda: bench.names())
    await bench.put(writer, 6)
    await writer.stop()
    assert whole_text(bench.path) == lines(*map(delivery, range(7)))


async def test_when_even_the_old_name_is_refused_the_file_is_written_on_under_the_new_one(
    bench: RotatingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await bench.writer(bench.rotating(PLAIN))
    await bench.put(writer, 1)
    with monkeypatch.context() as patch:
        refusing("open", patch, lambda path, flags, *_: bool(flags & os.O_CREAT))
        refusing("rename", patch, lambda old, new: "log.ec-" in str(old))
        assert (await writer.rotate())[0].failed
        await bench.put(writer, 2)
        (old,) = rotated_files(bench.path)
        assert old.read_text() == lines(delivery(1), delivery(2))
    (again,) = await writer.rotate()
    assert "a new file is begun" in again.reason
    await bench.put(writer, 3)
    await writer.stop()
    assert bench.text() == lines(delivery(3))
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3)))


async def test_what_has_the_name_already_is_not_overwritten(bench: RotatingBench) -> None:
    writer = await bench.writer(bench.rotating(PLAIN))
    await bench.put(writer, 1)
    precious = next_name(bench.path, (), bench.clock.time())
    precious.symlink_to(bench.folder / "nothing")
    assert (await writer.rotate())[0].reason.endswith("File exists")
    assert precious.is_symlink()
    bench.clock.advance(1)
    assert (await writer.rotate())[0].rotated is not None
    await writer.stop()


async def test_a_file_is_rotated_though_another_log_cannot_be_written(bench: RotatingBench) -> None:
    """The rows stay for the other's sake; a crash then doubles no line of this one."""
    broken = bench.folder / "broken.ec"
    both = [*bench.rotating(DAILY), logger(broken, "apn_logger.broken")]
    writer = await bench.writer(both)
    await bench.put(writer, 1)
    broken.unlink()
    broken.mkdir()
    bench.outbox.put([delivery(2)])
    writer.wake()
    await until(lambda: bench.text() == lines(delivery(1), delivery(2)))
    bench.clock.jump(DAY)
    (now,) = await writer.rotate("one")
    assert now.rotated is not None
    bench.outbox.put([delivery(3)])
    writer.wake()
    await until(lambda: bench.text() == lines(delivery(3)))
    await writer.stop()
    assert bench.outbox.depth() == 2
    broken.rmdir()
    await bench.write_all(delivery(4), loggers=both)
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3, 4)))
    assert broken.read_text() == lines(*map(delivery, (2, 3, 4)))


async def test_a_file_is_not_rotated_before_all_its_lines_are_remembered(bench: RotatingBench) -> None:
    """A crash would look for its lines in a file that is not there any more."""
    writer = await bench.writer(bench.rotating(DAILY))
    await bench.put(writer, 1)
    bench.memory.refusing = True
    bench.outbox.put([delivery(2)])
    writer.wake()
    await until(lambda: bench.text() == lines(delivery(1), delivery(2)))
    (now,) = await writer.rotate()
    assert (now.rotated, now.failed) == (None, True)
    assert bench.names() == []
    bench.memory.refusing = False
    bench.clock.advance(60)
    (now,) = await writer.rotate()
    assert now.rotated is not None
    await bench.put(writer, 3)
    await writer.stop()
    assert bench.text() == lines(delivery(3))
    assert whole_text(bench.path) == lines(*map(delivery, (1, 2, 3)))


async def test_nothing_is_compressed_before_the_new_file_is_remembered(bench: RotatingBench) -> None:
    """Until then a start looks for the old one by its inode."""
    writer = await bench.writer(bench.rotating(RotateSettings(size=None, every=None, keep=1)))
    await bench.put(writer, 1)
    bench.memory.refusing = True
    (done,) = await writer.rotate()
    assert done.rotated is not None
    await until(lambda: bench.told)
    for _ in range(3):
        bench.clock.advance(1)
        await asyncio.sleep(0.01)
    assert bench.names() == ["20231114T221320Z"]
    bench.memory.refusing = False
    bench.clock.advance(1)
    await until(lambda: bench.names() == ["20231114T221320Z.gz"])
    await writer.stop()


async def test_a_disk_too_full_to_compress_on_is_told_and_tried_again(
    bench: RotatingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await bench.writer(bench.rotating(RotateSettings(size=1, every=None)))
    with monkeypatch.context() as patch:
        refusing("write", patch, lambda *_: True)
        await bench.put(writer, 1)
        await until(lambda: bench.told)
        assert "cannot be compressed or deleted: No space left on device; it stays as it is" in bench.told[0]
        assert bench.names() == ["20231114T221320Z"]
    bench.clock.advance(60)
    await until(lambda: bench.names() == ["20231114T221320Z.gz"])
    await writer.stop()
    assert whole_text(bench.path) == lines(delivery(1))


async def test_what_a_crash_left_uncompressed_is_compressed_at_the_start(bench: RotatingBench) -> None:
    for suffix in ("1Z", "2Z", "2Z.gz", "3Z.gz.tmp"):
        whole = gzip.compress(b"2Z\n") if suffix == "2Z.gz" else f"{suffix}\n".encode()
        (bench.folder / f"log.ec-20231114T22132{suffix}").write_bytes(whole)
    writer = await bench.writer(bench.rotating(RotateSettings()))
    await until(lambda: bench.names() == ["20231114T221321Z.gz", "20231114T221322Z.gz"])
    await writer.stop()
    assert whole_text(bench.path) == "1Z\n2Z\n"


async def test_a_compressed_file_keeps_mode_and_time_and_is_on_disk_before_the_plain_one_goes(
    bench: RotatingBench, monkeypatch: pytest.MonkeyPatch
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


async def test_stopping_does_not_wait_for_a_large_file_to_be_compressed(bench: RotatingBench) -> None:
    plain = bench.folder / "log.ec-20231114T221320Z"
    with plain.open("wb") as file:
        file.truncate(20_000_000_000)  # sparse: a minute of work
    writer = await bench.writer(bench.rotating(RotateSettings()))
    await until(lambda: len(bench.names()) == 2)
    async with asyncio.timeout(2):
        await writer.stop()
    await until(lambda: bench.names() == ["20231114T221320Z"])
    assert plain.stat().st_size == 20_000_000_000


async def test_others_may_rotate_too(bench: RotatingBench) -> None:
    """logrotate renames and sends SIGHUP; what it renamed is its own."""
    writer = await bench.writer(bench.rotating(RotateSettings(size=100, every=None, keep=1)))
    await bench.put(writer, 1)
    theirs = bench.folder / "log.ec.1"
    bench.path.rename(theirs)
    await writer.reopen()
    await bench.put(writer, 2)
    assert bench.text() == lines(delivery(2))
    bench.path.rename(bench.folder / "log.ec.2")
    (done,) = await writer.rotate()  # without a signal
    assert "others had renamed it" in done.reason
    await bench.put(writer, *range(3, 20))
    await until(lambda: len(bench.names()) == 1 and bench.names()[0].endswith(".gz"))
    await writer.stop()
    assert theirs.read_text() == lines(delivery(1))


async def test_a_bug_in_rotation_does_not_stop_the_log(bench: RotatingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr("mcmt.eventlog.rotation.next_name", broken)
    writer = await bench.writer(bench.rotating(RotateSettings(size=1, every=None)))
    await bench.put(writer, *range(5))
    await writer.stop()
    assert bench.text() == lines(*map(delivery, range(5)))
    assert len(bench.told) == 1
    assert "cannot be rotated: ZeroDivisionError" in bench.told[0]


async def test_what_others_wrote_goes_with_the_file(bench: RotatingBench) -> None:
    writer = await bench.writer(bench.rotating(PLAIN))
    await bench.put(writer, 1)
    with bench.path.open("a") as file:
        file.write("by hand")
    (done,) = await writer.rotate()
    assert (done.failed, done.reason) == (True, "others wrote to it; it is rotated in a moment")
    await until(bench.names)
    assert rotated_files(bench.path)[0].read_text() == lines(delivery(1)) + "by hand\n"
    await writer.stop()


async def test_the_file_that_is_written_to_is_not_compressed_whatever_its_name(
    bench: RotatingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await bench.writer(bench.rotating(RotateSettings(size=None, every=None, keep=1)))
    with monkeypatch.context() as patch:
        refusing("write", patch, lambda *_: True)
        await bench.put(writer, 1)
        await writer.rotate()
        await until(lambda: bench.told)  # not compressed, and tried again in a minute
        await bench.put(writer, 2)
        refusing("open", patch, lambda path, flags, *_: bool(flags & os.O_CREAT))
        refusing("rename", patch, lambda old, new: "log.ec-" in str(old))
        assert (await writer.rotate())[0].failed
    bench.clock.advance(60)
    await until(lambda: bench.names()[0].endswith(".gz"))
    await bench.put(writer, 3)
    assert rotated_files(bench.path)[1].read_text() == lines(delivery(2), delivery(3))
    await writer.stop()


async def test_a_compressed_file_is_never_taken_for_the_log_though_it_has_its_inode(bench: RotatingBench) -> None:
    await bench.write_all(delivery(1), loggers=bench.rotating(PLAIN))
    packed = bench.folder / "log.ec-20231114T221320Z.gz"
    bench.path.rename(packed)
    with packed.open("a") as file:
        file.write("more")
    await bench.write_all(delivery(2), loggers=bench.rotating(PLAIN))
    assert packed.read_text() == lines(delivery(1)) + "more"
    assert bench.text() == lines(delivery(2))
