"""The outboxes' reader in good days: order, bursts, followers, heartbeats, start and stop."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcmt.config.settings import EventLogSettings
from mcmt.errors import EventLogError
from mcmt.eventlog.loggers import EventLogger
from mcmt.message.event import Event
from tests.unit.eventlog.support import Bench, delivery, lines, logger, until


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_rows_become_lines_in_order_and_go(bench: Bench) -> None:
    events = [delivery(number) for number in range(10)]
    bench.outbox.put(events[:4])
    bench.outbox.put(events[4:])
    await bench.write_all()
    assert bench.text() == lines(*events)
    assert bench.outbox.depth() == 0
    assert bench.told == []


async def test_what_comes_later_is_written_when_woken(bench: Bench) -> None:
    writer = await bench.writer()
    for number in range(3):
        bench.outbox.put([delivery(number)])
        writer.wake()
        await writer.flushed()
        assert bench.text() == lines(*map(delivery, range(number + 1)))
        assert bench.outbox.depth() == 0
    await writer.stop()


async def test_a_burst_is_one_write_a_file_and_many_bursts_are_one_fdatasync(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            calls.append(name)
            return real(*given)

        return call

    for name in ("pwrite", "fdatasync"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    for number in range(200):
        bench.outbox.put([delivery(number) for _ in range(20)])
    await bench.write_all(loggers=[logger(bench.path), logger(bench.folder / "two.ec", "apn_logger.two")])
    assert len(calls) < 20
    assert calls == ["pwrite"] * (len(calls) - 2) + ["fdatasync"] * 2
    assert bench.memory.saves == 2  # the new files, and the end
    assert bench.outbox.depth() == 0


async def test_under_load_what_is_written_is_remembered_by_time_and_by_lines(bench: Bench) -> None:
    writer = await bench.writer()
    await writer.flushed()
    before = bench.memory.saves
    for number in range(10):
        bench.outbox.put([delivery(number)])
        writer.wake()
        await until(lambda: bench.text().count("\n") == number + 1)  # noqa: B023 - read before the next turn
    assert (bench.memory.saves, bench.outbox.depth()) == (before, 10)
    await until(lambda: bench.clock.pending)
    bench.clock.advance(0.1)
    await until(lambda: bench.outbox.depth() == 0)
    assert bench.memory.saves == before + 1
    for number in range(100):
        bench.outbox.put([delivery(number) for _ in range(250)])
    writer.wake()
    await until(lambda: bench.outbox.depth() < 100)
    assert bench.memory.saves == before + 2
    await writer.stop()


async def test_a_log_in_which_nothing_but_heartbeats_is_written_remembers_nothing(bench: Bench) -> None:
    writer = await bench.writer([logger(bench.path, heartbeat=60)])
    await writer.flushed()
    before = bench.memory.saves
    beats: list[str] = []
    writer.follow(lambda _, line, __: beats.append(line))
    for minute in range(3):
        bench.clock.advance(60)
        await until(lambda: len(beats) == minute + 1)  # noqa: B023 - read before the next turn
    assert bench.memory.saves == before
    await writer.stop()
    assert bench.text().split() == beats


@pytest.mark.parametrize(("row", "longest"), [(5000, 5000), (9, 1998), (1, 256)])
async def test_a_burst_is_bounded_and_a_large_row_is_one(
    bench: Bench, row: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bursts: list[int] = []
    pwrite = os.pwrite

    def counted(descriptor: int, data: memoryview, start: int) -> int:
        bursts.append(bytes(data).count(b"\n"))
        return pwrite(descriptor, data, start)

    monkeypatch.setattr(os, "pwrite", counted)
    writer = await bench.writer()
    for number in range(20 + 8000 // row):
        bench.outbox.put([delivery(number) for _ in range(row)])
    await writer.stop()
    assert max(bursts) == longest
    assert bench.outbox.depth() == 0


async def test_a_follower_sees_each_line_once_it_is_in_the_file_until_it_leaves(bench: Bench) -> None:
    seen: list[tuple[str, str, str]] = []

    def listener(name: str, line: str, event: Event) -> None:
        assert f"{line}\n" in bench.text()
        seen.append((name, line, event.id))

    writer = await bench.writer()
    leave = writer.follow(listener)
    bench.outbox.put([delivery(1), delivery(2)])
    await writer.flushed()
    leave()
    leave()
    bench.outbox.put([delivery(3)])
    await writer.stop()
    assert seen == [("apn_logger.one", lines(delivery(n)).strip(), delivery(n).id) for n in (1, 2)]


async def test_a_follower_that_raises_is_dropped_and_stops_nothing(bench: Bench) -> None:
    writer = await bench.writer()

    def broken(_: str, __: str, ___: Event) -> None:
        raise ZeroDivisionError

    writer.follow(broken)
    bench.outbox.put([delivery(1), delivery(2)])
    await writer.flushed()
    bench.outbox.put([delivery(3)])
    await writer.stop()
    assert bench.text() == lines(*map(delivery, (1, 2, 3)))
    assert len(bench.told) == 1
    assert "ZeroDivisionError" in bench.told[0]


async def test_each_logger_has_heartbeats_of_its_own(bench: Bench) -> None:
    fast = logger(bench.path, "apn_logger.fast", heartbeat=60)
    slow = logger(bench.folder / "slow.ec", "apn_logger.slow", heartbeat=180)
    none = logger(bench.folder / "none.ec", "apn_logger.none")
    writer = await bench.writer([fast, slow, none])
    for _ in range(4):
        bench.clock.advance(60)
        await writer.flushed()
    await writer.stop()
    assert bench.text() == "".join(f"{1_700_000_000 + 60 * n}@M\n" for n in (1, 2, 3, 4))
    assert slow.path.read_text() == "1700000180@M\n"
    assert none.path.read_text() == ""


async def test_no_heartbeats_pile_up_while_the_file_cannot_be_written(bench: Bench) -> None:
    writer = await bench.writer([logger(bench.path, heartbeat=60)])
    bench.path.unlink()
    bench.path.mkdir()
    for _ in range(20):
        bench.clock.advance(60)
        await writer.reopen()  # returns after a round of the writer's
    bench.path.rmdir()
    bench.clock.advance(30)
    await writer.stop()
    assert bench.text() == "1700000060@M\n"


async def test_the_spools_refusal_is_told_once_and_tried_again(bench: Bench) -> None:
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    bench.outbox.refusing = True
    writer.wake()
    await until(lambda: bench.told)
    for _ in range(5):
        bench.clock.advance(1)
    assert len(bench.told) == 1
    assert "refused by the test" in bench.told[0]
    bench.outbox.refusing = False
    bench.clock.advance(1)
    await until(lambda: bench.text() == lines(delivery(1)))
    await writer.stop()
    assert bench.outbox.depth() == 0


async def test_stop_ends_though_the_spool_refuses_and_releases_whoever_waits(bench: Bench) -> None:
    writer = await bench.writer()
    bench.outbox.refusing = True
    await writer.stop()
    with pytest.raises(EventLogError, match="not running"):
        await writer.flushed()
    await writer.stop()


async def test_the_mode_is_the_loggers_whatever_the_umask(bench: Bench) -> None:
    settings = EventLogSettings(name="m", channel=None, logfile=bench.path, logmode=0o640, heartbeat=0)
    before = os.umask(0o077)
    try:
        await bench.write_all(loggers=[EventLogger("m", settings, {})])
    finally:
        os.umask(before)
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o640
    bench.path.chmod(0o600)
    await bench.write_all(loggers=[EventLogger("m", settings, {})])
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o640


@pytest.mark.parametrize("kind", ["missing folder", "folder", "pipe"])
async def test_a_file_that_cannot_be_had_is_refused_at_start_by_its_path(bench: Bench, kind: str) -> None:
    path = {"missing folder": bench.folder / "missing" / "log.ec"}.get(kind, bench.path)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    writer = bench.unstarted([logger(path)])
    with pytest.raises(EventLogError, match=f"{path}: .*make its folder and file writable"):
        await writer.start()
    await writer.stop()


async def test_two_names_of_one_file_are_refused(bench: Bench) -> None:
    bench.path.touch()
    other = bench.folder / "other.ec"
    other.hardlink_to(bench.path)
    with pytest.raises(EventLogError, match=r"other\.ec: another engine or logger writes to it: .* apn_logger\.two"):
        await bench.writer([logger(bench.path), logger(other, "apn_logger.two")])


async def test_a_file_that_another_engine_writes_is_refused_until_that_one_has_ended(bench: Bench) -> None:
    """Two that write at offsets of their own write over each other's lines."""
    first = await bench.writer()
    second = bench.unstarted()
    with pytest.raises(EventLogError, match=f"{bench.path}: another engine or logger writes to it: stop that one, or"):
        await second.start()
    await first.reopen()
    bench.outbox.put([delivery(1)])
    await first.flushed()
    await first.stop()
    assert bench.text() == lines(delivery(1))
    await (await bench.writer()).stop()


async def test_an_existing_file_is_appended_to_and_its_last_line_ended(bench: Bench) -> None:
    bench.path.write_text("old line\nold line without its end")
    await bench.write_all(delivery(1))
    assert bench.text() == "old line\nold line without its end\n" + lines(delivery(1))
