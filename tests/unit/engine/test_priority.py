"""A one-time code overtakes the bulk mail of its own domain wherever that waits, and nothing waits for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcmt.message.event import Kind
from mcmt.message.priority import BULK, HIGH, NORMAL
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway, transient

DOMAIN = "push.example.com"


@pytest.fixture
def gateway() -> ScriptedGateway:
    gateway = ScriptedGateway()
    gateway.delay, gateway.room = 0.001, 20
    return gateway


async def test_it_passes_a_message_of_ten_thousand_tokens_that_is_streaming_out(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    """Sent with the next room that the connection has, whatever is ready, and whatever waits in the spool."""
    async with Bench(tmp_path, gateway, max_outbound_connections=1) as bench:
        await bench.accept()
        await bench.wait_for_events(1, Kind.DELIVERY)
        await bench.accept(10_000)
        ahead = []
        for code in range(20):
            await bench.wait_until(lambda code=code: len(gateway.sent) > 100 * (code + 1))  # type: ignore[misc]  # bound
            before = len(gateway.sent)
            await bench.accept(priority=HIGH)
            await bench.wait_until(lambda code=code: sum(one.priority for one in gateway.sent) > code)  # type: ignore[misc]  # bound
            place = max(n for n, one in enumerate(gateway.sent) if one.priority == HIGH)
            ahead.append(place - before)
        assert sorted(ahead)[10] < 200, "some pull of the bulk mail may be under way, and a commit takes its time"
        assert max(ahead) < 2000
        await bench.wait_for_events(10_021, Kind.DELIVERY, within=60.0)


async def test_it_passes_what_is_ready_on_a_route_that_was_down(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.delay = None
    async with Bench(tmp_path, gateway, max_outbound_connections=1) as bench:
        await bench.accept(300, priority=BULK)
        await bench.wait_until(lambda: len(gateway.sent) == 20)
        await bench.accept(300)
        await bench.accept(3, priority=HIGH)
        gateway.delay = 0.0
        gateway.open[0].answer()
        await bench.wait_for_events(603, Kind.DELIVERY)
        assert [one.priority for one in gateway.sent[20:23]] == [HIGH] * 3
        first = [one.priority for one in gateway.sent[23:63]]
        assert first.count(NORMAL) >= 30


async def test_it_takes_the_place_of_bulk_mail_where_memory_is_full(tmp_path: Path, gateway: ScriptedGateway) -> None:
    """``max_resident_active_queue`` holds as before: what gives its place up is sent later."""
    gateway.room = 5
    async with Bench(tmp_path, gateway, max_outbound_connections=1, max_resident_active_queue=60) as bench:
        await bench.accept()
        await bench.wait_for_events(1, Kind.DELIVERY)
        gateway.delay = None
        await bench.accept(200, priority=BULK)
        await bench.wait_until(lambda: bench.engine.resident == 60)
        await bench.accept(2, priority=HIGH)
        await bench.wait_until(lambda: bench.engine.snapshot()[0]["ready"] in range(2, 56))
        assert bench.engine.resident <= 60
        gateway.delay = 0.0
        gateway.open[0].answer()
        await bench.wait_for_events(203, Kind.DELIVERY)
        assert [one.priority for one in gateway.sent[6:8]] == [HIGH] * 2
        assert len({one.row for one in gateway.sent}) == len(gateway.sent) == 203


async def test_bulk_mail_does_not_wait_for_ever_beside_urgent_mail_without_end(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with Bench(tmp_path, gateway, max_outbound_connections=1) as bench:
        await bench.accept()
        await bench.wait_for_events(1, Kind.DELIVERY)
        await bench.accept(40, priority=BULK)
        going = True

        async def urgent() -> None:
            while going:
                await bench.accept(200, priority=HIGH)
                await bench.wait_until(lambda: sum(one.priority == HIGH for one in gateway.sent) > asked[0] - 2000)
                asked[0] += 200

        asked = [200]
        feeding = [asyncio.create_task(urgent()) for _ in range(2)]
        await bench.wait_until(lambda: sum(one.priority == BULK for one in gateway.sent) == 40, within=60.0)
        going = False
        await asyncio.gather(*feeding)


async def test_a_retry_is_as_urgent_as_it_was(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: transient() if not delivery.attempts and delivery.priority == HIGH else DELIVERED
    async with Bench(tmp_path, gateway, max_outbound_connections=1) as bench:
        await bench.accept(priority=HIGH)
        await bench.accept(5)
        await bench.wait_for_events(6, Kind.DELIVERY)
        assert [(one.priority, one.attempts) for one in gateway.sent if one.priority] == [(HIGH, 0), (HIGH, 1)]


async def test_another_domain_is_no_slower_for_it(tmp_path: Path, gateway: ScriptedGateway) -> None:
    """Priorities count within a domain: urgent mail of one does not stand before bulk mail of another."""
    async with Bench(tmp_path, gateway, max_outbound_connections=1, others={"other.example.com": {}}) as bench:
        await bench.accept()
        await bench.accept(domain="other.example.com")
        await bench.wait_for_events(2, Kind.DELIVERY)
        before = len(gateway.sent)
        await asyncio.gather(
            bench.accept(1000, priority=HIGH), bench.accept(1000, domain="other.example.com", priority=BULK)
        )
        await bench.wait_for_events(2002, Kind.DELIVERY, within=30.0)
        half = gateway.sent[before : before + 1000]
        assert sum(one.domain == DOMAIN for one in half) in range(250, 750)
