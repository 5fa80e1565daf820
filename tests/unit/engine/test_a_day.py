"""A day in some seconds: the time is moved by hand, everything else is real."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from mcmt.errors import ConnectError
from mcmt.message.event import Event, Kind
from tests.support.engine_bench import Bench
from tests.support.manual_clock import ManualClock

from .scripted import DELIVERED, ScriptedGateway, transient

HOUR = 3600.0
STEP = 10.0


async def pass_time(bench: Bench, clock: ManualClock, seconds: float) -> None:
    """Move the clock in steps, and let the engine finish what each step set going."""
    for _ in range(int(seconds / STEP)):
        clock.advance(STEP)
        await asyncio.sleep(0)
        while any(is_the_engines(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.0005)


def is_the_engines(task: asyncio.Task[object]) -> bool:
    return task.get_name().split(" ")[0] in ("settler", "pull", "connect", "expire", "close")


async def final_lines(bench: Bench) -> list[Event]:
    return await bench.events(Kind.DELIVERY, Kind.PERMANENT)


@pytest.mark.timeout(110)
async def test_a_gateway_that_is_away_for_six_hours_finds_everything_delivered_or_expired_once(tmp_path: Path) -> None:
    """50,000 queued, a fifth of them with two hours to live; the gateway comes back after six."""
    clock, gateway = ManualClock(), ScriptedGateway()
    gateway.connect_error = ConnectError("connection refused")
    async with Bench(tmp_path, gateway, clock=clock, retry_interval=30.0, max_retry_interval=900.0) as bench:
        short = [await bench.accept(2_500, life=2 * HOUR) for _ in range(4)]
        long = [await bench.accept(10_000, life=24 * HOUR) for _ in range(4)]
        await pass_time(bench, clock, 6 * HOUR)
        assert len(gateway.connects_to) < 6 * HOUR / 60 + 20, "a back-off, not a storm"
        assert bench.engine.resident <= 100
        assert len(await bench.events(Kind.PERMANENT)) == 10_000
        gateway.connect_error = None
        await pass_time(bench, clock, 0.5 * HOUR)
        lines = await final_lines(bench)
        assert await bench.left() == 0
    assert set(Counter(event.id for event in lines).values()) == {1}, "each has one final line"
    assert Counter((event.kind, event.batch_id in short) for event in lines) == {
        (Kind.PERMANENT, True): 10_000,
        (Kind.DELIVERY, False): 40_000,
    }
    assert {event.batch_id for event in lines} == {*short, *long}
    assert {event.attempt for event in lines} == {0}, "a gateway that is away costs no attempt"
    assert {delivery.sender.batch_id for delivery in gateway.sent} == set(long), "what has expired is never sent"


async def test_a_gateway_that_refuses_for_hours_is_asked_by_the_schedule(tmp_path: Path) -> None:
    """500 for six hours: every delivery is tried again at 30, 60, 120 ... 900 seconds, and delivered in the end."""
    clock, gateway = ManualClock(), ScriptedGateway()
    gateway.script = lambda delivery: transient()
    async with Bench(tmp_path, gateway, clock=clock, retry_interval=30.0, max_retry_interval=900.0) as bench:
        await bench.accept(200, life=24 * HOUR)
        await pass_time(bench, clock, 6 * HOUR)
        tried = Counter(event.id for event in await bench.events(Kind.TRANSIENT))
        # 30 + 60 + 120 + 240 + 480 seconds, then one attempt every 900: 28 or 29 in six hours.
        assert set(tried.values()) <= {27, 28, 29}
        gateway.script = lambda delivery: DELIVERED
        await pass_time(bench, clock, 0.5 * HOUR)
        assert len(await bench.events(Kind.DELIVERY)) == 200


async def test_a_clock_that_is_a_week_ahead_for_a_minute_puts_no_delivery_off_for_a_week(tmp_path: Path) -> None:
    clock, gateway = ManualClock(), ScriptedGateway()
    gateway.script = lambda delivery: transient()
    async with Bench(tmp_path, gateway, clock=clock, retry_interval=30.0, max_retry_interval=900.0) as bench:
        clock.jump(7 * 24 * HOUR)
        await bench.accept(20, life=24 * HOUR)
        await pass_time(bench, clock, 60)
        tried = Counter(event.id for event in await bench.events(Kind.TRANSIENT))
        assert set(tried.values()) == {2}, "by the schedule, also while the clock is wrong"
        clock.jump(-7 * 24 * HOUR)
        gateway.script = lambda delivery: DELIVERED
        await pass_time(bench, clock, 120)
        assert len(await bench.events(Kind.DELIVERY)) == 20
