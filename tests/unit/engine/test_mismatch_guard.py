"""Telling a wrong environment from dead tokens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcmt.engine.mismatch_guard import HOLD, THRESHOLD, WINDOW, MismatchGuard
from mcmt.message.event import Kind
from mcmt.message.model import Delivery, Part, Sender
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_bench import Bench
from tests.support.manual_clock import ManualClock

from .scripted import DELIVERED, ScriptedGateway

BAD_TOKEN = Outcome(disposition=Disposition.RECIPIENT_GONE, code="400", text="BadDeviceToken", suspect=True)


def delivery(number: int) -> Delivery:
    sender = Sender("0" * 24, 0.0, "app@example.com", {})
    return Delivery(number, number, "a.example", "u@a.example", f"{number:064x}", 0, 9e9, sender, Part("t", (), b""))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def guard(clock: ManualClock) -> MismatchGuard:
    return MismatchGuard(clock)


def refuse(guard: MismatchGuard, *numbers: int) -> tuple[int, int]:
    """How many are believed, and how many given back."""
    believed, given_back = guard.examine([(delivery(number), BAD_TOKEN) for number in numbers])
    return len(believed), len(given_back)


def test_a_refusal_after_a_delivery_is_believed_at_once(guard: MismatchGuard) -> None:
    guard.accepted()
    assert refuse(guard, 1) == (1, 0)


def test_a_refusal_with_nothing_to_explain_it_waits_and_is_believed_in_the_end(
    guard: MismatchGuard, clock: ManualClock
) -> None:
    assert refuse(guard, 1) == (0, 0)
    clock.advance(HOLD - 1)
    assert guard.overdue() == []
    clock.advance(1)
    assert len(guard.overdue()) == 1
    assert guard.held == 0


def test_a_delivery_vouches_for_what_was_held(guard: MismatchGuard) -> None:
    refuse(guard, 1, 2, 3)
    guard.accepted()
    assert refuse(guard, 4) == (4, 0)


def test_enough_distinct_tokens_refused_and_none_accepted_trip_it_and_give_everything_back(
    guard: MismatchGuard,
) -> None:
    assert refuse(guard, *range(THRESHOLD - 1)) == (0, 0)
    assert not guard.tripped
    assert refuse(guard, 99) == (0, THRESHOLD)
    assert guard.tripped
    assert refuse(guard, 100) == (0, 1), "tripped, it gives back whatever is refused"


def test_one_token_refused_many_times_does_not_trip_it(guard: MismatchGuard) -> None:
    assert refuse(guard, *[1] * (3 * THRESHOLD)) == (0, 0)
    assert not guard.tripped


def test_refusals_over_more_than_the_window_do_not_add_up(guard: MismatchGuard, clock: ManualClock) -> None:
    for number in range(3 * THRESHOLD):
        refuse(guard, number)
        clock.advance(WINDOW / 10)
        guard.overdue()
    assert not guard.tripped


def test_a_delivery_ends_it(guard: MismatchGuard) -> None:
    refuse(guard, *range(THRESHOLD))
    guard.accepted()
    assert not guard.tripped
    assert refuse(guard, 1) == (1, 0)


def test_a_success_long_ago_vouches_for_nobody(guard: MismatchGuard, clock: ManualClock) -> None:
    guard.accepted()
    clock.advance(WINDOW)
    assert refuse(guard, 1) == (0, 0)


def test_an_operator_who_trusts_the_route_is_believed(guard: MismatchGuard) -> None:
    guard.trust()
    assert refuse(guard, *range(3 * THRESHOLD)) == (3 * THRESHOLD, 0)


async def test_the_wrong_environment_bounces_nobody_and_is_over_when_it_is_mended(tmp_path: Path) -> None:
    """Every token refused: the route is suspended, everything is kept; mended, everything is delivered."""
    gateway = ScriptedGateway()
    gateway.script = lambda delivery: BAD_TOKEN
    async with Bench(tmp_path, gateway, max_retry_interval=0.5) as bench:
        await bench.accept(200)
        (news,) = await bench.wait_for_events(1, Kind.ROUTE)
        assert news.phase == "suspended"
        assert "other environment" in news.text
        await bench.wait_for_events(2, Kind.ROUTE)
        assert await bench.events(Kind.PERMANENT) == []
        assert await bench.left() == 200
        gateway.script = lambda delivery: DELIVERED
        assert len(await bench.wait_for_events(200, Kind.DELIVERY)) == 200
        assert await bench.events(Kind.PERMANENT, Kind.TRANSIENT) == []


async def test_each_probe_is_another_token_so_that_one_dead_token_does_not_decide(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    gateway.script = lambda delivery: BAD_TOKEN
    async with Bench(tmp_path, gateway, max_retry_interval=0.1) as bench:
        await bench.accept(30)
        await bench.wait_until(lambda: len(gateway.sent) >= 33)
        probes = [delivery.number for delivery in gateway.sent[30:33]]
        assert len(set(probes)) == 3


async def test_a_stale_list_among_good_traffic_does_not_trip_it(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    gateway.script = lambda delivery: BAD_TOKEN if delivery.number > 50 else DELIVERED
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(500)
        assert len(await bench.wait_for_events(450, Kind.PERMANENT)) == 450
        assert await bench.events(Kind.ROUTE) == []


async def test_a_list_that_is_dead_as_a_whole_is_failed_when_the_operator_says_so(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    gateway.script = lambda delivery: BAD_TOKEN
    async with Bench(tmp_path, gateway, max_retry_interval=30.0) as bench:
        await bench.accept(100)
        await bench.wait_for_events(1, Kind.ROUTE)
        bench.engine.resume("push.example.com", trust=True)
        assert len(await bench.wait_for_events(100, Kind.PERMANENT)) == 100


async def test_what_an_operator_trusts_is_trusted_after_a_pause_as_well(tmp_path: Path) -> None:
    """The domain is forgotten while it has nothing to do; the word about it is not."""
    gateway = ScriptedGateway()
    gateway.script = lambda delivery: BAD_TOKEN
    async with Bench(tmp_path, gateway, idle_timeout=0.1) as bench:
        bench.engine.resume("push.example.com", trust=True)
        await bench.accept(1)
        await bench.wait_for_events(1, Kind.PERMANENT)
        await bench.wait_until(lambda: bench.engine.snapshot() == [])
        await bench.accept(1)
        await bench.wait_for_events(2, Kind.PERMANENT, within=3.0)


async def test_tokens_refused_in_small_numbers_add_up_over_pauses(tmp_path: Path) -> None:
    """An application that sends now and then to a wrong environment: nobody is bounced once there are enough."""
    clock, gateway = ManualClock(), ScriptedGateway()
    gateway.script = lambda delivery: BAD_TOKEN
    async with Bench(tmp_path, gateway, clock=clock, idle_timeout=5.0, max_retry_interval=3600.0) as bench:
        for burst in range(3):
            await bench.accept(8, token=lambda number, burst=burst: f"{burst * 8 + number:064x}")  # type: ignore[misc]
            await bench.wait_until(lambda burst=burst: len(gateway.sent) == 8 * (burst + 1))  # type: ignore[misc]
            for _ in range(150):
                clock.advance(1.0)
                await asyncio.sleep(0.002)
            if burst < 2:
                await bench.wait_until(lambda: bench.engine.snapshot() == [])
        (news,) = await bench.wait_for_events(1, Kind.ROUTE)
        assert news.phase == "suspended"
