"""After a crash every line stands in the log exactly once, whatever the crash left."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.eventlog.child import CHECKPOINTS, events_of
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
@pytest.mark.parametrize("junk", ["\0" * 50, "other 12\nlines 34\n", "x"])
async def test_a_tail_that_disagrees_is_cut_back_to_its_last_right_line(bench: Bench, agreeing: int, junk: str) -> None:
    right = lines(*OWED[:agreeing])
    await owe(bench, right + lines(OWED[agreeing])[:9] + junk)
    await bench.write_all()
    assert bench.text() == lines(*OLD) + WHOLE
    assert len(bench.told) == 1
    assert f"{bench.path}: {9 + len(junk)} bytes" in bench.told[0]


async def test_a_format_changed_meanwhile_writes_what_is_owed_in_the_new_one(bench: Bench) -> None:
    await owe(bench, lines(*OWED[:3]))
    await bench.write_all(loggers=[logger(bench.path, text="new %i")])
    assert bench.text() == lines(*OLD) + lines(*OWED, text="new %i")
    assert bench.outbox.depth() == 0


async def test_whole_lines_past_all_that_is_owed_stay_and_a_torn_one_goes(bench: Bench) -> None:
    await owe(bench, WHOLE + "by another hand\ntorn")
    await bench.write_all()
    bench.outbox.put([delivery(9)])
    await bench.write_all()
    assert bench.text() == lines(*OLD) + WHOLE + "by another hand\n" + lines(delivery(9))
    assert "16 in whole lines kept, 4 cut" in bench.told[0]


async def test_a_file_rotated_while_we_were_down_is_finished_and_a_new_one_begun(bench: Bench) -> None:
    for size in range(0, len(WHOLE) + 1, 7):
        await owe(bench, WHOLE[:size])
        before = bench.path.read_text()[: -size or None]
        rotated = bench.folder / f"log.ec.{size}"
        bench.path.rename(rotated)
        if size % 2:
            bench.path.touch()  # as logrotate's `create` does
        await bench.write_all(delivery(90))
        # Sixteen rows and fewer are one burst, and a burst is finished where it was begun.
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


def expected(folder: Path) -> tuple[str, str]:
    """Both logs as every row ever put makes them."""
    database = sqlite3.connect(folder / "outbox.sqlite")
    last = database.execute("SELECT seq FROM sqlite_sequence").fetchone()[0]
    database.close()
    every = [event for sequence in range(1, last + 1) for event in events_of(sequence)]
    return lines(*every), lines(*every, text="%d %i")


def written(folder: Path) -> tuple[str, str]:
    """Both logs, with what was rotated out of the first before it."""
    rotated = sorted(folder.glob("one.ec.*"))
    return "".join(path.read_text() for path in [*rotated, folder / "one.ec"]), (folder / "two.ec").read_text()


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
    assert wanted[0].count("\n") > 1000
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
