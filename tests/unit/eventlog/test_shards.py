"""Several shards: each line once, whichever is away, slow, refusing, removed or made anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcmt.errors import EventLogError
from mcmt.eventlog.loggers import EventLogger
from mcmt.eventlog.writer import EventLogWriter
from mcmt.message.event import OutboxRow
from tests.unit.eventlog.support import Bench, FileOutbox, delivery, lines, logger, until, whole_text


class TwoShards(Bench):
    """A bench whose writer has a second shard."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.other = FileOutbox(folder / "other.sqlite")

    def unstarted(self, loggers: Sequence[EventLogger] | None = None) -> EventLogWriter:  # type: ignore[override]
        writer = super().unstarted(loggers)
        writer.add("1", self.other)
        return writer

    def crash(self, writer: EventLogWriter) -> None:
        """End the writer as a kill does: nothing more is saved, the descriptors go."""
        assert writer._task is not None
        writer._task.cancel()
        for progress in writer._all:
            progress.file.close()

    def written(self) -> list[str]:
        return sorted(self.text().splitlines(keepends=True))


def sorted_lines(*numbers: int) -> list[str]:
    return sorted(lines(*map(delivery, numbers)).splitlines(keepends=True))


@pytest.fixture
def bench(tmp_path: Path) -> TwoShards:
    return TwoShards(tmp_path)


async def test_the_rows_of_all_shards_become_lines_and_each_keeps_its_order(bench: TwoShards) -> None:
    for number in range(600):
        bench.outbox.put([delivery(number)])
        bench.other.put([delivery(1000 + number)])
    await bench.write_all()
    numbers = [int(line.split("-")[1].split()[0]) for line in bench.text().splitlines()]
    assert [number for number in numbers if number < 1000] == list(range(600))
    assert [number for number in numbers if number >= 1000] == list(range(1000, 1600))
    assert bench.outbox.depth() == bench.other.depth() == 0


async def test_none_starves_beside_one_that_is_never_empty(bench: TwoShards) -> None:
    read = bench.outbox.read_outbox

    async def endless(after: int, limit: int) -> Sequence[OutboxRow]:
        bench.outbox.put([delivery(0)] * 1000)
        bench.outbox.put([delivery(0)] * 1000)
        return await read(after, min(limit, 2))

    bench.outbox.read_outbox = endless  # type: ignore[method-assign]
    writer = await bench.writer()
    for number in range(1, 11):
        bench.other.put([delivery(number)])
        before = bench.outbox.reads
        writer.wake("1")
        await until(lambda: lines(delivery(number)) in bench.text())  # noqa: B023 - read before the next turn
        assert bench.outbox.reads - before < 30
    bench.outbox.read_outbox = read  # type: ignore[method-assign]
    await writer.stop()


async def test_one_that_answers_late_holds_no_other_up(bench: TwoShards) -> None:
    writer = await bench.writer()
    answer = asyncio.Event()
    read = bench.other.read_outbox

    async def late(after: int, limit: int) -> Sequence[OutboxRow]:
        await answer.wait()
        return await read(after, limit)

    bench.other.read_outbox = late  # type: ignore[method-assign]
    bench.other.put([delivery(1)])
    bench.outbox.put([delivery(2)])
    writer.wake()
    await until(lambda: bench.text() == lines(delivery(2)))
    bench.outbox.put([delivery(3)])
    writer.wake("0")
    await until(lambda: bench.text() == lines(delivery(2), delivery(3)))
    answer.set()
    await writer.stop()
    assert bench.written() == sorted_lines(1, 2, 3)


async def test_one_that_is_away_for_a_while_is_no_news_and_the_others_go_on(bench: TwoShards) -> None:
    writer = await bench.writer()
    bench.other.away = True
    for number in range(3):
        bench.outbox.put([delivery(number)])
        bench.other.put([delivery(100 + number)])
        await writer.flushed()
        assert bench.text() == lines(*map(delivery, range(number + 1)))
        bench.clock.advance(1)
    assert (bench.outbox.depth(), bench.other.depth()) == (0, 3)
    bench.other.away = False
    bench.clock.advance(1)
    await until(lambda: bench.written() == sorted_lines(0, 1, 2, 100, 101, 102))
    await writer.stop()
    assert bench.other.depth() == 0
    assert bench.told == []


async def test_one_that_comes_back_as_another_outbox_goes_on_where_it_was(bench: TwoShards) -> None:
    writer = await bench.writer()
    bench.other.put([delivery(1)])
    writer.wake()
    await until(lambda: bench.text() == lines(delivery(1)))
    bench.other.away = True  # the row is written, and neither remembered nor let go
    bench.other.put([delivery(2)])
    again = FileOutbox(bench.folder / "other.sqlite")
    writer.add("1", again)
    await writer.flushed()
    assert bench.text() == lines(delivery(1), delivery(2))
    assert again.depth() == 0
    await writer.stop()


async def test_one_that_refuses_is_told_of_and_the_others_go_on(bench: TwoShards) -> None:
    writer = await bench.writer()
    bench.other.refusing = True
    for number in range(3):
        bench.outbox.put([delivery(number)])
        writer.wake()
        await until(lambda: bench.text() == lines(*map(delivery, range(number + 1))))  # noqa: B023 - as above
    assert len(bench.told) == 1
    await writer.stop()
    assert bench.outbox.depth() == 0


async def test_the_lines_of_a_shard_that_is_away_at_the_start_are_known_when_it_comes(bench: TwoShards) -> None:
    """Also over another crash in between, while the other shard's rows are written and forgotten."""
    await bench.write_all(delivery(0))
    with bench.path.open("a") as file:  # a crash left these: of the one shard, of the other, and of nobody
        file.write(lines(*map(delivery, (11, 1, 12, 99))))
    bench.outbox.put([delivery(1), delivery(2)])
    bench.other.put([delivery(11), delivery(12), delivery(13)])
    bench.other.away = True
    for number in range(3, 6):
        writer = await bench.writer()
        bench.outbox.put([delivery(number)])
        await writer.flushed()
        assert bench.outbox.depth() == 0
        bench.crash(writer)
    assert bench.written() == sorted_lines(0, 1, 2, 3, 4, 5, 11, 12, 99)
    bench.other.away = False
    await bench.write_all()
    assert bench.written() == sorted_lines(0, 1, 2, 3, 4, 5, 11, 12, 13, 99)
    assert bench.other.depth() == 0
    (told,) = bench.told
    assert "1 lines that no event is owed: kept" in told
    assert all(not remembered.tail for remembered in bench.memory.load().values())


async def test_equal_lines_of_two_shards_are_as_many_as_there_are_events(bench: TwoShards) -> None:
    """Without an id in the format nothing tells them apart."""
    same = [logger(bench.path, text="same")]
    await bench.write_all(delivery(0), loggers=same)
    with bench.path.open("a") as file:
        file.write("same\n" * 3)
    bench.outbox.put([delivery(1), delivery(2)])
    bench.other.put([delivery(11), delivery(12), delivery(13)])
    bench.other.away = True
    writer = await bench.writer(same)
    await writer.flushed()
    bench.crash(writer)
    bench.other.away = False
    await bench.write_all(loggers=same)
    assert bench.text() == "same\n" * 6


async def test_a_shard_that_is_removed_is_forgotten_when_all_of_it_is_written(bench: TwoShards) -> None:
    writer = await bench.writer()
    bench.other.put([delivery(1)])
    bench.other.away = True
    removal = asyncio.ensure_future(writer.remove("1"))
    await writer.flushed()
    bench.clock.advance(1)
    assert not removal.done()
    bench.other.away = False
    async with asyncio.timeout(10):
        while not removal.done():
            bench.clock.advance(1)
            await asyncio.sleep(0.005)
    assert bench.text() == lines(delivery(1))
    assert bench.other.depth() == 0
    assert [set(remembered.cursors) for remembered in bench.memory.load().values()] == [{"0"}]
    # Made anew, with sequences from the first one on: they are not taken for old ones.
    bench.other.close()
    (bench.folder / "other.sqlite").unlink()
    anew = FileOutbox(bench.folder / "other.sqlite")
    anew.put([delivery(2)])
    writer.add("1", anew)
    await writer.flushed()
    await writer.stop()
    assert bench.text() == lines(delivery(1), delivery(2))


async def test_a_removal_ends_with_the_writer(bench: TwoShards) -> None:
    writer = await bench.writer()
    with pytest.raises(KeyError):
        await writer.remove("2")
    bench.other.put([delivery(1)])
    bench.other.away = True
    removal = asyncio.ensure_future(writer.remove("1"))
    await writer.flushed()
    await writer.stop()
    async with asyncio.timeout(10):
        while not removal.done():
            bench.clock.advance(1)
            await asyncio.sleep(0.005)
    assert isinstance(removal.exception(), EventLogError)
    assert bench.other.depth() == 1


async def test_a_file_is_rotated_while_a_shard_is_away_that_owns_lines_of_it(bench: TwoShards) -> None:
    await bench.write_all(delivery(0))
    with bench.path.open("a") as file:
        file.write(lines(delivery(11)))
    bench.other.put([delivery(11), delivery(12)])
    bench.other.away = True
    writer = await bench.writer()
    (done,) = await writer.rotate()
    assert done.rotated is not None
    bench.outbox.put([delivery(1)])
    await writer.flushed()
    bench.crash(writer)
    bench.other.away = False
    await bench.write_all()
    assert whole_text(bench.path) == lines(*map(delivery, (0, 11, 1, 12)))
    assert bench.text() == lines(delivery(1), delivery(12))
