"""A feedback service is read when it is due, once for the machine; errors are told and tried again later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mcmt.channel.port import Feedback, Told
from mcmt.engine.feedback import FIRST_WAIT, START_WAIT, Reader
from mcmt.errors import ConnectError
from mcmt.message.event import Event, Kind
from mcmt.spool.gone_tokens import StoredTokenTable
from mcmt.spool.port import GoneToken
from mcmt.spool.state import StateStore
from tests.support.manual_clock import ManualClock
from tests.unit.intake.server import ListSpool

DOMAIN = "apn.example.com"
DAY = 86400.0
SINCE = 1_600_000_000.0


class Bench:
    """A reader of a service that tells what it is given to tell."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.keeper = ListSpool()
        self.table = StoredTokenTable.create(folder, self.clock)
        self.state = StateStore.open(folder)
        self.to_tell: list[tuple[str, float]] = []
        self.failure: Exception | None = None
        self.readings = 0
        self.waiting = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def _service(self, told: Told) -> None:
        self.readings += 1
        if self.to_tell:
            await told(self.to_tell)
        if self.failure is not None:
            raise self.failure

    def start(self) -> None:
        feedback = Feedback("apn-feedback://gateway.example.com", DAY, self._service)
        state = self.state.scope("feedback")
        reader = Reader(DOMAIN, "apn", feedback, self.keeper, self.table, state, self.clock, lambda: 0.0)
        self.task = asyncio.get_running_loop().create_task(reader.run())

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.002)

    async def pass_over(self, seconds: float) -> None:
        """Let the time pass as soon as the reader waits for it."""
        await asyncio.sleep(0.05)  # it may be reading its memory on a thread
        self.clock.advance(seconds)
        await asyncio.sleep(0.05)

    def events(self, kind: Kind) -> list[Event]:
        return [event for event in self.keeper.recorded if event.kind is kind]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "spool")
    bench.start()
    yield bench
    await bench.stop()
    bench.table.close()
    bench.state.close()


async def test_what_it_tells_is_an_event_each_but_for_what_is_known(bench: Bench) -> None:
    bench.table.learn([GoneToken(DOMAIN, "aa", SINCE), GoneToken(DOMAIN, "bb", SINCE - 1)])
    bench.to_tell = [("aa", SINCE), ("bb", SINCE), ("cc", SINCE)]
    await bench.pass_over(START_WAIT)
    await bench.until(lambda: len(bench.keeper.recorded) == 3)
    told = bench.events(Kind.TOKEN)
    assert [(event.token, event.gone_since, event.phase, event.protocol) for event in told] == [
        ("bb", SINCE, "gone", "feedback"),
        ("cc", SINCE, "gone", "feedback"),
    ]
    (news,) = bench.events(Kind.ROUTE)
    assert (news.domain, news.phase, news.text) == (
        *(DOMAIN, "feedback"),
        "apn-feedback://gateway.example.com: told 3 device tokens, 2 of them not known to be gone",
    )


async def test_it_is_read_at_the_start_and_then_when_the_interval_is_over_also_over_a_restart(bench: Bench) -> None:
    await bench.pass_over(START_WAIT)
    await bench.until(lambda: bench.readings == 1)
    await bench.until(lambda: bench.state.get(DOMAIN, "feedback") is not None)
    await bench.pass_over(DAY - 10)
    assert bench.readings == 1
    await bench.stop()
    bench.start()
    await bench.pass_over(9)
    assert bench.readings == 1
    await bench.pass_over(2)
    await bench.until(lambda: bench.readings == 2)


async def test_a_failure_is_told_and_tried_again_later_and_later(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.failure = ConnectError("gateway.example.com:2196: connection refused")
    bench.to_tell = [("aa", SINCE)]
    with caplog.at_level(logging.ERROR):
        await bench.pass_over(START_WAIT)
        await bench.until(lambda: bench.readings == 1)
        await bench.pass_over(FIRST_WAIT)
        await bench.until(lambda: bench.readings == 2)
        await bench.pass_over(FIRST_WAIT)
        assert bench.readings == 2
        await bench.pass_over(FIRST_WAIT)
        await bench.until(lambda: bench.readings == 3)
    assert "connection refused; it is tried again" in caplog.text
    # What it told before it failed stays, and the failure is in the main log.
    assert {event.token for event in bench.events(Kind.TOKEN)} == {"aa"}
    assert "connection refused" in bench.events(Kind.ROUTE)[0].text
    assert bench.state.get(DOMAIN, "feedback") is None


async def test_a_channels_bug_does_not_end_the_readings(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.failure = RuntimeError("a bug")
    with caplog.at_level(logging.ERROR):
        await bench.pass_over(START_WAIT)
        await bench.until(lambda: bench.readings == 1)
        bench.failure = None
        await bench.pass_over(FIRST_WAIT)
        await bench.until(lambda: bench.readings == 2)
    assert "a bug" in caplog.text
    caplog.clear()


async def test_a_clock_that_was_set_back_does_not_put_a_reading_off(bench: Bench) -> None:
    await bench.stop()
    bench.state.put(DOMAIN, str(bench.clock.time() + 1e6).encode(), "feedback")
    bench.start()
    await bench.pass_over(START_WAIT)
    await bench.until(lambda: bench.readings == 1)
