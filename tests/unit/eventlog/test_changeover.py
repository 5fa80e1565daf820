"""Loggers that come, go and change while lines are written: each line once, and nobody loses one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcmt.config.settings import RotateSettings
from mcmt.errors import EventLogError
from mcmt.eventlog.alone import open_alone
from tests.unit.eventlog.support import Bench, delivery, lines, logger, until, whole_text


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_one_that_is_added_under_load_has_every_later_line_once_and_the_others_all(bench: Bench) -> None:
    one, two = logger(bench.path), logger(bench.folder / "two.ec", "apn_logger.two")
    writer = await bench.writer([one])
    over = asyncio.Event()
    put = 0

    async def load() -> None:
        nonlocal put
        while not over.is_set():
            put += 1
            bench.outbox.put([delivery(put)])
            writer.wake("0")
            await asyncio.sleep(0)

    loading = asyncio.create_task(load())
    await until(lambda: bench.text().count("\n") > 20)
    await writer.reload([one, two])
    after = put
    await until(lambda: two.path.read_text().count("\n") > 20)
    over.set()
    await loading
    await writer.stop()
    everything = [lines(delivery(number)) for number in range(1, put + 1)]
    assert bench.text() == "".join(everything)
    found = two.path.read_text()
    assert "".join(everything).endswith(found)
    assert "".join(everything[after:]) in found


async def test_one_that_is_removed_is_not_waited_for_and_its_file_is_let_go(bench: Bench) -> None:
    one, two = logger(bench.path), logger(bench.folder / "two.ec", "apn_logger.two")
    writer = await bench.writer([one, two])
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    await writer.reload([one])
    bench.outbox.put([delivery(2)])
    await writer.flushed()
    assert not await bench.outbox.read_outbox(0, 10)
    assert (bench.text(), two.path.read_text()) == (lines(delivery(1), delivery(2)), lines(delivery(1)))
    open_alone(two.path, 0, 0)
    await writer.stop()


async def test_one_that_comes_back_begins_where_the_log_is_then(bench: Bench) -> None:
    """And not where it was: what happened meanwhile was not for it."""
    one, two = logger(bench.path), logger(bench.folder / "two.ec", "apn_logger.two")
    writer = await bench.writer([one, two])
    for number, loggers in ((1, [one]), (2, [one, two]), (3, [one, two])):
        bench.outbox.put([delivery(number)])
        await writer.flushed()
        await writer.reload(loggers)
    await writer.stop()
    assert two.path.read_text() == lines(delivery(1), delivery(3))


async def test_another_format_holds_from_the_next_line_on_and_after_a_start(bench: Bench) -> None:
    text = "%i again"
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    bench.outbox.put([delivery(2)])
    await writer.reload([logger(bench.path, text=text)])
    bench.outbox.put([delivery(3)])
    await writer.flushed()
    await writer.stop()
    await bench.write_all(delivery(4), loggers=[logger(bench.path, text=text)])
    found = bench.text()
    assert found.startswith(lines(delivery(1)))
    assert found.endswith(lines(delivery(3), delivery(4), text=text))
    assert found.count("\n") == 4


async def test_one_goes_on_in_another_file_and_under_another_name_in_the_same(bench: Bench) -> None:
    other = bench.folder / "other.ec"
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    await writer.reload([logger(other)])
    bench.outbox.put([delivery(2)])
    await writer.flushed()
    await writer.reload([logger(other, "apn_logger.renamed")])
    bench.outbox.put([delivery(3)])
    await writer.stop()
    assert (bench.text(), other.read_text()) == (lines(delivery(1)), lines(delivery(2), delivery(3)))
    await bench.write_all(delivery(4), loggers=[logger(other, "apn_logger.renamed")])
    assert other.read_text() == lines(*[delivery(number) for number in (2, 3, 4)])


async def test_what_one_could_not_write_is_written_by_the_one_in_its_place(bench: Bench) -> None:
    one, two, third = bench.path, bench.folder / "two.ec", bench.folder / "third.ec"
    writer = await bench.writer([logger(one), logger(two, "apn_logger.two")])
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    two.unlink()
    two.mkdir()
    bench.outbox.put([delivery(2)])
    writer.wake("0")
    await until(lambda: writer.failing)
    await until(lambda: bench.text() == lines(delivery(1), delivery(2)))
    await writer.reload([logger(one), logger(third, "apn_logger.third")])
    bench.outbox.put([delivery(3)])
    await writer.stop()
    assert third.read_text() == lines(delivery(2), delivery(3))
    assert bench.text() == lines(delivery(1), delivery(2), delivery(3))
    assert bench.outbox.depth() == 0


async def test_two_may_change_files(bench: Bench) -> None:
    one, two = bench.path, bench.folder / "two.ec"
    writer = await bench.writer([logger(one, text="one %i"), logger(two, "apn_logger.two", "two %i")])
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    await writer.reload([logger(two, text="one %i"), logger(one, "apn_logger.two", "two %i")])
    bench.outbox.put([delivery(2)])
    await writer.stop()
    assert one.read_text() == lines(delivery(1), text="one %i") + lines(delivery(2), text="two %i")
    assert two.read_text() == lines(delivery(1), text="two %i") + lines(delivery(2), text="one %i")


async def test_a_file_that_cannot_be_written_changes_nothing(bench: Bench) -> None:
    writer = await bench.writer()
    missing = bench.folder / "missing" / "log.ec"
    new = logger(bench.folder / "new.ec", "apn_logger.new")
    with pytest.raises(EventLogError, match=r"missing/log\.ec: No such file or directory: .* of apn_logger\.two"):
        await writer.reload([new, logger(missing, "apn_logger.two")])
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    assert bench.text() == lines(delivery(1))
    assert not new.path.read_text()
    await writer.reload([new])
    await writer.stop()


async def test_rotation_and_heartbeats_are_those_of_the_new_settings(bench: Bench) -> None:
    rotate = RotateSettings(size=1, every=None, keep=None, compress="none")
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    await writer.reload([logger(bench.path, heartbeat=10, rotate=rotate)])
    bench.outbox.put([delivery(2)])
    await writer.flushed()
    assert whole_text(bench.path) == lines(delivery(1), delivery(2))
    assert bench.text() != whole_text(bench.path)
    assert [logged.logger for logged in await writer.rotate()] == ["apn_logger.one"]
    bench.clock.advance(10)
    await until(lambda: "@M\n" in whole_text(bench.path))
    await writer.reload([logger(bench.path)])
    beats = whole_text(bench.path).count("@M")
    bench.clock.advance(100)
    await writer.stop()
    assert whole_text(bench.path).count("@M") == beats


@pytest.mark.parametrize("name", ["apn_logger.one", "apn_logger.renamed"])
async def test_what_was_written_since_is_known_after_a_crash(bench: Bench, name: str) -> None:
    """By the format and under the name that hold since: the lines are found, and none is written twice."""
    new = logger(bench.path, name, text="%i again")
    writer = await bench.writer()
    bench.outbox.put([delivery(1)])
    writer.wake("0")
    await until(lambda: bench.text() == lines(delivery(1)))
    await writer.reload([new])
    bench.outbox.put([delivery(2)])
    writer.wake("0")
    expected = lines(delivery(1)) + lines(delivery(2), text="%i again")
    await until(lambda: bench.text() == expected)
    remembered = bench.memory.load()[name]
    assert remembered.offset == len(lines(delivery(1)))
    # It is too early to remember the second line; and then there is no writer any more.
    assert writer._task is not None
    writer._task.cancel()
    await asyncio.gather(writer._task, return_exceptions=True)
    await writer._close()
    await bench.write_all(delivery(3), loggers=[new])
    assert bench.text() == expected + lines(delivery(3), text="%i again")
