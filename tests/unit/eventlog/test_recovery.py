"""After a crash every line stands in the log exactly once, whatever the crash left."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mcmt.message.event import Event
from tests.unit.eventlog.child import CHECKPOINTS, events_of, outboxes
from tests.unit.eventlog.support import Bench, delivery, lines, logger

OLD = [delivery(number) for number in range(3)]
OWED = [delivery(number) for number in range(3, 8)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def owe(bench: Bench, tail: str, text: str = "%i %t") -> None:
    """Bring the log to where it is after OLD, with OWED in the outbox and *tail* past the position."""
    await bench.write_all(*OLD, loggers=[logger(bench.path, text=text)])
    bench.outbox.put(OWED[:2])
    bench.outbox.put(OWED[2:])
    with bench.path.open("a") as file:
        file.write(tail)


WHOLE = lines(*OWED)


async def test_a_tail_torn_at_any_byte_is_completed(tmp_path: Path) -> None:
    text = "%t"  # short lines: each byte costs a crash
    whole = lines(*OWED, text=text)
    for size in range(len(whole) + 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        bench = Bench(folder)
        await owe(bench, whole[:size], text)
        await bench.write_all(loggers=[logger(bench.path, text=text)])
        assert bench.text() == lines(*OLD, text=text) + whole
        assert bench.told == []
        assert bench.outbox.depth() == 0
        bench.outbox.close()


@pytest.mark.parametrize("agreeing", [0, 1, 3, 4])
@pytest.mark.parametrize("junk", ["\0" * 50, "\0other\nlines 34\n" + lines(OWED[4]), "x\r\n"])
async def test_what_cannot_be_a_line_of_ours_is_cut_with_all_that_follows(
    bench: Bench, agreeing: int, junk: str
) -> None:
    right = lines(*OWED[:agreeing])
    await owe(bench, right + lines(OWED[agreeing])[:9] + junk)
    await bench.write_all()
    assert bench.text() == lines(*OLD) + WHOLE
    offset = len(lines(*OLD) + right)
    assert bench.told == [f"{bench.path}: {9 + len(junk)} bytes past offset {offset} are no lines of ours: cut"]


async def test_lines_in_any_order_are_taken_and_those_that_lack_are_appended(bench: Bench) -> None:
    await owe(bench, lines(OWED[4], OWED[1], OWED[2]))
    await bench.write_all()
    assert bench.text() == lines(*OLD, OWED[4], OWED[1], OWED[2], OWED[0], OWED[3])
    assert bench.told == []


async def test_a_line_that_is_owed_twice_and_stands_once_is_written_once_more(bench: Bench) -> None:
    await bench.write_all(*OLD)
    for _ in range(3):
        bench.outbox.put([OWED[0]])
    with bench.path.open("a") as file:
        file.write(lines(OWED[0]))
    await bench.write_all()
    assert bench.text() == lines(*OLD, OWED[0], OWED[0], OWED[0])


async def test_what_stands_in_the_file_already_is_brought_to_disk_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owe(bench, WHOLE)
    synced: list[int] = []
    fdatasync = os.fdatasync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    bench.outbox.on_acknowledge = lambda: synced.append(0)
    await bench.write_all()
    assert bench.text() == lines(*OLD) + WHOLE
    assert synced.index(bench.path.stat().st_ino) < synced.index(0)


async def test_a_disk_that_is_full_in_the_middle_of_it_doubles_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owe(bench, lines(OWED[0], OWED[2]))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        writer = await bench.writer()
        assert "No space left" in bench.told[0]
    bench.clock.advance(1)
    await writer.flushed()
    await writer.stop()
    # What the crash left could not be written again, so it was cut, and all of it is written when there is room.
    assert bench.text() == lines(*OLD) + WHOLE


async def test_what_a_crash_left_is_written_again_before_it_is_synced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a sync had failed before the crash, the next one succeeds without a byte of it (fsync(2), errors)."""
    await owe(bench, WHOLE)
    written: list[bytes] = []
    pwrite = os.pwrite

    def noted(descriptor: int, data: bytes, offset: int) -> int:
        written.append(bytes(data))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    await bench.write_all()
    assert b"".join(written) == WHOLE.encode()
    assert bench.text() == lines(*OLD) + WHOLE


async def test_a_format_changed_meanwhile_writes_what_is_owed_in_the_new_one(bench: Bench) -> None:
    await owe(bench, lines(*OWED[:3]))
    await bench.write_all(loggers=[logger(bench.path, text="new %i")])
    assert bench.text() == lines(*OLD, *OWED[:3]) + lines(*OWED, text="new %i")
    assert bench.outbox.depth() == 0


async def test_whole_lines_that_nobody_is_owed_stay_and_are_told_of_once(bench: Bench) -> None:
    await owe(bench, "by another hand\n" + WHOLE + "another one\ntorn")
    await bench.write_all()
    bench.outbox.put([delivery(9)])
    await bench.write_all()
    assert bench.text() == lines(*OLD) + "by another hand\n" + WHOLE + "another one\n" + lines(delivery(9))
    (told,) = bench.told
    assert "2 lines that no event is owed: kept" in told


async def test_heartbeats_that_a_crash_left_are_kept_and_no_news(bench: Bench) -> None:
    await owe(bench, "1700000060@M\n" + WHOLE + "1700000120@M\n")
    await bench.write_all(loggers=[logger(bench.path, heartbeat=60)])
    assert bench.text() == lines(*OLD) + "1700000060@M\n" + WHOLE + "1700000120@M\n"
    assert bench.told == []


async def test_a_file_rotated_while_we_were_down_is_finished_and_a_new_one_begun(bench: Bench) -> None:
    for size in range(0, len(WHOLE) + 1, 7):
        await owe(bench, WHOLE[:size])
        before = bench.path.read_text()[: -size or None]
        rotated = bench.folder / f"log.ec.{size}"
        bench.path.rename(rotated)
        if size % 2:
            bench.path.touch()  # as logrotate's `create` does
        await bench.write_all(delivery(90))
        assert rotated.read_text() + bench.text() == before + WHOLE + lines(delivery(90))
        assert bench.outbox.depth() == 0
        bench.path.unlink()
        bench.path.touch()
    assert not [line for line in bench.told if "cut" in line and "gone" not in line and "outside" not in line]


async def test_another_file_that_is_not_ours_is_never_touched(bench: Bench) -> None:
    await owe(bench, "")
    stranger = bench.folder / "mainlog.ec"
    bench.path.rename(stranger)
    before = stranger.read_text()
    await bench.write_all()
    assert stranger.read_text() == before
    assert bench.text() == WHOLE
    assert "is gone" in bench.told[0]


async def test_a_file_cut_while_we_were_down_is_appended_to(bench: Bench) -> None:
    await owe(bench, "")
    bench.path.write_text("cut\n")
    await bench.write_all()
    assert bench.text() == "cut\n" + WHOLE


async def test_a_logger_that_is_new_begins_beside_one_that_goes_on(bench: Bench) -> None:
    await owe(bench, WHOLE[:20])
    second = logger(bench.folder / "second.ec", "apn_logger.second")
    await bench.write_all(loggers=[logger(bench.path), second])
    assert bench.text() == lines(*OLD) + WHOLE
    assert second.path.read_text() == WHOLE


def run_child(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.unit.eventlog.child", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def every_event(folder: Path) -> list[Event]:
    """Those of every row that was ever put."""
    boxes = outboxes(folder)
    every = [
        event
        for name, box in boxes.items()
        for sequence in range(1, box.next_sequence())
        for event in events_of(name, sequence)
    ]
    for box in boxes.values():
        assert box.depth() == 0
        box.close()
    return every


def expected(folder: Path) -> tuple[list[str], list[str]]:
    """The lines of both logs as every row ever put makes them, sorted: a crash may leave them in another order."""
    every = every_event(folder)
    return sorted(lines(*every).splitlines()), sorted(lines(*every, text="%d %i").splitlines())


def written(folder: Path) -> tuple[list[str], list[str]]:
    """Both logs, with what was rotated out of the first before it."""
    first = "".join(path.read_text() for path in [*sorted(folder.glob("one.ec.*")), folder / "one.ec"])
    return sorted(first.splitlines()), sorted((folder / "two.ec").read_text().splitlines())


def finish(folder: Path) -> None:
    with run_child(folder, "finish") as child:
        assert child.wait(30) == 0


def test_kill_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    for turn in range(6):
        with run_child(tmp_path, "run") as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "writing\n"
            try:
                child.wait(chance.uniform(0.0, 0.15))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
            assert child.wait(10) == -signal.SIGKILL
        if turn % 2:
            (tmp_path / "one.ec").rename(tmp_path / f"one.ec.{turn}")
    finish(tmp_path)
    wanted = expected(tmp_path)
    assert len(wanted[0]) > 1000
    assert written(tmp_path) == wanted


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_kill_at_the_worst_moments_loses_and_doubles_nothing(tmp_path: Path, checkpoint: str) -> None:
    with run_child(tmp_path, "run", checkpoint) as child:
        assert child.wait(30) == -signal.SIGKILL
    finish(tmp_path)
    assert written(tmp_path) == expected(tmp_path)


def test_a_file_renamed_under_load_and_a_kill_lose_and_double_nothing(tmp_path: Path) -> None:
    with run_child(tmp_path, "rotate") as child:
        assert child.wait(30) == -signal.SIGKILL
    assert len(list(tmp_path.glob("one.ec.*"))) >= 5
    finish(tmp_path)
    assert written(tmp_path) == expected(tmp_path)


async def test_start_returns_after_what_a_crash_left_is_written(bench: Bench) -> None:
    await owe(bench, WHOLE[:11])
    writer = await bench.writer()
    assert bench.text().startswith(lines(*OLD) + WHOLE)
    await asyncio.sleep(0)
    await writer.stop()
