"""What an engine does by a rule that is in force."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcmt.config.rate import Rate
from mcmt.config.rules import Rule, RuleBook
from mcmt.config.settings import Settings
from mcmt.engine.rulings import SCOPE
from mcmt.engine.shaper import Shaper
from mcmt.errors import ControlError
from mcmt.message.event import Kind
from mcmt.message.status import Disposition, Outcome
from mcmt.spool.state import StateStore
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway, transient

DOMAIN = "push.example.com"
BUSY = Outcome(disposition=Disposition.TRANSIENT, code="429", text="TooManyRequests")


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


def rules(**given: Any) -> RuleBook:
    rule = {"name": "busy", "codes": ("429",), "times": 10, "within": 60.0, "duration": 600.0}
    return RuleBook([Rule(**{**rule, **given})])


async def news(bench: Bench) -> list[tuple[str, str]]:
    return [(event.phase, event.text) for event in await bench.events(Kind.ROUTE)]


async def test_a_domain_is_suspended_and_sends_again_when_the_time_is_up(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.script = lambda delivery: BUSY
    async with Bench(tmp_path, gateway, rules=rules(suspend=True, duration=1.0)) as bench:
        await bench.accept(10)
        await bench.wait_for_events(1, Kind.ROUTE)
        gateway.script = lambda delivery: DELIVERED
        (told,) = bench.engine.snapshot()
        reason = "10 answers within 60 s, the last one 429 TooManyRequests"
        assert (told["state"], told["reason"]) == ("suspended by a rule", f"busy: {reason}")
        with pytest.raises(ControlError, match="suspended by rule busy"):
            bench.engine.retry(DOMAIN)
        sent = len(gateway.sent)
        await bench.wait_for_events(10, Kind.DELIVERY)
        assert await news(bench) == [
            ("rule_began", f"busy: suspend, for 1 s: {reason}"),
            ("rule_ended", "busy: its time is up"),
        ]
        assert len(gateway.sent) - sent <= 10
        assert not bench.engine.ruled_domains


async def test_a_resume_by_hand_ends_it(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: BUSY
    async with Bench(tmp_path, gateway, rules=rules(suspend=True, duration=0.0)) as bench:
        await bench.accept(10)
        await bench.wait_for_events(1, Kind.ROUTE)
        gateway.script = lambda delivery: DELIVERED
        bench.engine.resume(DOMAIN)
        assert not bench.engine.ruled_domains
        await bench.wait_for_events(10, Kind.DELIVERY)
        assert (await news(bench))[-1] == ("rule_ended", "busy: by hand")


async def test_a_suspension_by_rule_holds_over_a_restart(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: BUSY
    shapers: list[Shaper] = []

    def shaping(settings: Settings, state: StateStore) -> Shaper:
        shapers.append(Shaper(settings, state.scope(SCOPE), bench.clock))
        return shapers[-1]

    given: dict[str, Any] = {"rules": rules(suspend=True), "shaping": shaping}
    bench = Bench(tmp_path, gateway, **given)
    async with bench:
        await bench.accept(10)
        await bench.wait_for_events(1, Kind.ROUTE)
        shapers[-1].close()
    sent = len(gateway.sent)
    gateway.script = lambda delivery: DELIVERED
    bench = Bench(tmp_path, gateway, **given)
    async with bench:
        await bench.accept(3)
        await asyncio.sleep(0.2)
        assert len(gateway.sent) == sent
        assert bench.engine.snapshot()[0]["state"] == "suspended by a rule"
        bench.engine.resume(DOMAIN)
        await bench.wait_for_events(13, Kind.DELIVERY)


async def test_options_have_other_values_and_no_connection_is_closed_for_that(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.script = lambda delivery: BUSY if delivery.attempts == 0 else DELIVERED
    book = rules(values=(("outbound_throttle_messages", Rate(20)), ("retry_interval", 0.01)))
    async with Bench(tmp_path, gateway, rules=book) as bench:
        await bench.accept(10)
        await bench.wait_for_events(1, Kind.ROUTE)
        queue = bench.engine._queues[DOMAIN]
        assert (queue.settings.outbound_throttle_messages, queue.settings.retry_interval) == (Rate(20), 0.01)
        assert queue.settings.scopes["retry_interval"] == ("rule", DOMAIN, "busy")
        await bench.wait_for_events(10, Kind.DELIVERY)
        assert len(gateway.all) == 1
        bench.engine.resume(DOMAIN)
        assert bench.engine._queue_of(DOMAIN).settings == bench.settings.domains[DOMAIN]  # type: ignore[union-attr]


async def test_fewer_connections_are_opened(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: BUSY
    async with Bench(tmp_path, gateway, rules=rules(values=(("max_outbound_connections", 1),))) as bench:
        await bench.accept(10)
        await bench.wait_for_events(1, Kind.ROUTE)
        gateway.script = lambda delivery: DELIVERED
        queue = bench.engine._queues[DOMAIN]
        assert queue.links._leases is bench.engine._leases[f"{DOMAIN}\n{DOMAIN}"]


async def test_matching_deliveries_fail_for_good_while_it_is_in_force(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: transient() if delivery.number == 1 else BUSY
    async with Bench(tmp_path, gateway, rules=rules(fail="matching"), retry_interval=0.2) as bench:
        await bench.accept(11)
        await bench.wait_for_events(10, Kind.PERMANENT)
        failed = await bench.events(Kind.PERMANENT)
        assert {(event.code, event.text) for event in failed} == {
            ("554", "5.7.0 [internal] failed by rule busy: 429 TooManyRequests")
        }
        assert len(failed) == 10, "the one that was answered otherwise is tried on"


async def test_what_is_refused_unprocessed_fails_as_well_and_still_speaks_against_the_route(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.room = 1
    gateway.script = lambda delivery: Outcome(disposition=Disposition.REFUSED, code="429", text="Slow down")
    async with Bench(tmp_path, gateway, rules=rules(fail="matching", times=2)) as bench:
        await bench.accept(3)
        await bench.wait_for_events(3, Kind.PERMANENT, within=20)
        assert "down" in [phase for phase, _ in await news(bench)]


async def test_the_queue_fails_once_but_for_what_is_held(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: BUSY
    async with Bench(tmp_path, gateway, rules=rules(fail="queue"), retry_interval=300.0) as bench:
        await bench.accept(700, delay=300.0)
        await bench.accept(10)
        await bench.wait_for_events(710, Kind.PERMANENT)
        texts = {event.text for event in await bench.events(Kind.PERMANENT)}
        assert texts == {"5.7.0 [internal] failed by rule busy"}
        gateway.script = lambda delivery: DELIVERED
        await bench.accept(5)
        await bench.wait_for_events(5, Kind.DELIVERY)


async def test_a_success_in_between_is_seen_in_the_order_of_the_answers(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    """Nine that fail, one that succeeds, nine that fail: never ten without a success."""
    gateway.script = lambda delivery: DELIVERED if delivery.number == 10 else BUSY
    book = rules(suspend=True, without_success=True)
    async with Bench(tmp_path, gateway, rules=book, retry_interval=300.0, max_retry_interval=300.0) as bench:
        await bench.accept(19)
        await bench.wait_for_events(18, Kind.TRANSIENT)
        assert await news(bench) == []
        gateway.script = lambda delivery: DELIVERED
        await bench.accept(1)
        await bench.wait_for_events(2, Kind.DELIVERY)
        gateway.script = lambda delivery: BUSY
        await bench.accept(9)
        await bench.wait_for_events(27, Kind.TRANSIENT)
        await asyncio.sleep(0.05)
        assert await news(bench) == []
        await bench.accept(1)
        await bench.wait_for_events(1, Kind.ROUTE)
        assert (await news(bench))[0][0] == "rule_began"


async def test_of_deliveries_that_succeed_nothing_is_told(tmp_path: Path, gateway: ScriptedGateway) -> None:
    told: list[str] = []

    class Counting(Shaper):
        def succeeded(self, domain: str) -> None:
            told.append(domain)
            super().succeeded(domain)

    bench = Bench(
        tmp_path,
        gateway,
        rules=rules(suspend=True, without_success=True),
        shaping=lambda settings, state: Counting(settings, state.scope(SCOPE), bench.clock),
    )
    async with bench:
        await bench.accept(300)
        await bench.wait_for_events(300, Kind.DELIVERY)
        assert told == []
        gateway.script = lambda delivery: BUSY if delivery.attempts == 0 and delivery.number == 1 else DELIVERED
        await bench.accept(1)
        await bench.accept(300)
        await bench.wait_for_events(601, Kind.DELIVERY)
    assert len(told) <= 3
