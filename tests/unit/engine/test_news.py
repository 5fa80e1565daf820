"""What one engine of the machine learns of a route, the others need not find out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mcmt.clock import SystemClock
from mcmt.engine.mismatch_guard import THRESHOLD, MismatchGuard
from mcmt.engine.news import News
from mcmt.engine.route_health import HEARSAY, RouteHealth
from mcmt.message.event import Kind
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_bench import Bench
from tests.support.manual_clock import ManualClock

from .scripted import DELIVERED, ScriptedGateway
from .test_mismatch_guard import BAD_TOKEN, delivery

FAULT = Outcome(disposition=Disposition.ROUTE_FAULT, code="403", text="InvalidProviderToken")


async def test_a_fault_that_one_engine_finds_stops_the_other_and_its_end_lets_it_go_on(tmp_path: Path) -> None:
    news: list[News] = []
    first, second = ScriptedGateway(), ScriptedGateway()
    faulty = True
    first.script = lambda _: FAULT if faulty else DELIVERED
    second.delay = None  # it answers nothing: what it was sent stays on the wire
    async with Bench(tmp_path / "b", second) as other:
        await other.accept(1)
        await other.wait_until(lambda: len(second.sent) == 1)

        def tell(one: News) -> None:
            news.append(one)
            other.engine.heard(one)

        async with Bench(tmp_path / "a", first, tell=tell) as bench:
            await bench.accept(1)
            await bench.wait_until(lambda: any(one.kind == "suspended" for one in news))
            await other.accept(5)
            await asyncio.sleep(0.2)
            assert len(second.sent) == 1, "nothing is sent into a fault that is known"
            assert other.engine.snapshot()[0]["state"] == "suspended by a route fault"
            faulty = False
            await bench.wait_for_events(1, Kind.DELIVERY)
            await other.wait_until(lambda: len(second.sent) == 6)
            assert not await other.events(Kind.ROUTE), "the one that found it tells the logs"
    assert {one.kind for one in news[-2:]} == {"resumed", "accepted"}


def test_who_was_told_of_a_fault_asks_the_gateway_later_than_the_one_that_tells() -> None:
    clock = ManualClock()
    told: list[str] = []
    health = RouteHealth(clock, lambda: 0.0, 60.0, lambda word, _: told.append(word))
    health.heard_fault("403 InvalidProviderToken")
    clock.advance(61.0)
    assert not health.probing
    health.heard_fault("403 InvalidProviderToken")
    clock.advance(61.0)
    assert not health.probing, "the other is there, and still asks"
    clock.advance(60.0 * HEARSAY)
    assert health.probing, "nobody has told anything for too long"
    health.heard_mended()
    assert not health.fault
    assert told == []


def test_tokens_refused_count_together() -> None:
    guards: list[MismatchGuard] = []

    def telling(number: int) -> MismatchGuard:
        return MismatchGuard(SystemClock(), lambda kind, token: guards[1 - number].heard(kind, token))

    guards += [telling(0), telling(1)]
    for number in range(THRESHOLD):
        guards[number % 2].examine([(delivery(number), BAD_TOKEN)])
    assert guards[(THRESHOLD - 1) % 2].tripped, "half of the tokens each, and yet it is seen"
    guards[0].accepted()
    believed, given_back = guards[1].examine([(delivery(99), BAD_TOKEN)])
    assert len(believed) > 0
    assert not given_back


def test_a_busy_route_does_not_tell_of_eachdelivery() -> None:
    clock = ManualClock()
    told: list[str] = []
    guard = MismatchGuard(clock, lambda kind, _: told.append(kind))
    for _ in range(1000):
        guard.accepted()
        clock.advance(0.1)
    assert told == ["accepted"]
