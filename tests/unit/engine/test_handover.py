"""Deliveries that were accepted just now go to connections without a way over the disk; every limit holds as before."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from mcmt.engine.places import PULL_BYTES, PULL_COLD
from mcmt.message.event import Kind
from mcmt.message.model import Delivery
from mcmt.message.status import Outcome
from mcmt.spool.port import Pulled, Selection
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway, transient

DOMAIN = "push.example.com"
MANY = "one of ten thousand"


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


class Pulls:
    """What the engine asks the spool for."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.brought: list[int] = []
        self.pull = bench.spool.pull
        monkeypatch.setattr(bench.spool, "pull", self)

    async def __call__(self, *arguments: Any) -> Pulled:
        found = await self.pull(*arguments)
        self.brought.append(len(found.deliveries))
        return found


async def warm(bench: Bench) -> None:
    """Have the gateway answered once, and nothing left to pull."""
    await bench.accept()
    await bench.wait_for_events(1, Kind.DELIVERY)
    await bench.wait_until(lambda: bench.engine.resident == 0)


async def test_while_there_is_room_nothing_is_read_back(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Bench(tmp_path, gateway) as bench:
        await warm(bench)
        pulls = Pulls(bench, monkeypatch)
        for burst in range(20):
            await asyncio.gather(*[bench.accept(1 + burst) for _ in range(3)])
        await bench.wait_for_events(1 + 3 * 210, Kind.DELIVERY)
        assert pulls.brought == []
        rows = [one.row for one in gateway.sent]
        assert rows == sorted(rows)
        assert await bench.left() == 0


async def test_what_has_no_room_is_pulled_later_and_the_order_is_kept(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.room, gateway.delay = 10, 0.002
    peak = 0

    def deliver(delivery: Delivery) -> Outcome:
        nonlocal peak
        peak = max(peak, bench.engine.resident)
        return DELIVERED

    gateway.script = deliver
    async with Bench(tmp_path, gateway, max_resident_active_queue=120, max_outbound_connections=1) as bench:
        await warm(bench)
        pulls = Pulls(bench, monkeypatch)
        for burst in range(100):
            await bench.accept(1 + burst % 30)
            await asyncio.sleep(0.001 * (burst % 3))
        total = sum(1 + burst % 30 for burst in range(100))
        await bench.wait_for_events(1 + total, Kind.DELIVERY)
        rows = [one.row for one in gateway.sent]
        assert rows == sorted(set(rows))
        assert 0 < sum(pulls.brought) < total, "some were handed over, and some were pulled"
        assert peak <= 120


async def test_of_large_messages_no_more_are_handed_over_than_a_pull_brings(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with Bench(tmp_path, gateway) as bench:
        await warm(bench)
        gateway.delay, gateway.room = None, 1
        await asyncio.gather(*[bench.accept(content=bytes(PULL_BYTES // 4)) for _ in range(12)])
        await bench.wait_until(lambda: len(gateway.sent) == 2)
        (status,) = bench.engine.snapshot()
        assert status["ready"] in range(1, 2 * 4 + 1)
        gateway.delay, gateway.room = 0.0, 100
        gateway.open[0].answer()
        await bench.wait_for_events(13, Kind.DELIVERY)


async def test_a_cold_route_takes_a_handful(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.delay, gateway.room = None, 1
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept()
        await bench.wait_until(lambda: len(gateway.sent) == 1)
        await bench.accept(1000)
        await bench.accept(1000)
        assert bench.engine.resident == 1 + PULL_COLD
        gateway.delay = 0.0
        gateway.room = 1000
        gateway.open[0].answer()
        await bench.wait_for_events(2001, Kind.DELIVERY)
        rows = [one.row for one in gateway.sent]
        assert rows == sorted(rows)


@pytest.mark.parametrize("how", ["suspended by hand", "draining"])
async def test_a_domain_that_sends_nothing_takes_nothing(tmp_path: Path, gateway: ScriptedGateway, how: str) -> None:
    async with Bench(tmp_path, gateway) as bench:
        await warm(bench)
        if how == "draining":
            await bench.engine.drain(0.1)
        else:
            bench.engine.suspend(DOMAIN, "maintenance")
        await bench.accept(5)
        assert bench.engine.resident == 0
        assert [entry.active for _, entry in await bench.spool.browse(Selection(domain=DOMAIN), 0, 10)] == [False] * 5
        if how != "draining":
            bench.engine.resume(DOMAIN)
            await bench.wait_for_events(6, Kind.DELIVERY)


async def test_what_is_tried_again_has_its_turn_beside_what_comes_without_end(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.script = lambda delivery: DELIVERED if delivery.attempts or delivery.token != "again" else transient()
    async with Bench(tmp_path, gateway) as bench:
        await warm(bench)
        batch = await bench.accept(token=lambda number: "again")
        async with asyncio.timeout(5):
            while not any(one.id == f"{batch}-1" for one in await bench.events(Kind.DELIVERY)):
                await bench.accept(3)


async def test_a_part_that_the_channel_does_not_carry_fails(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway) as bench:
        await warm(bench)
        await bench.accept(2, media_type="message/vnd.foreign")
        failed = await bench.wait_for_events(2, Kind.PERMANENT)
        assert {one.code for one in failed} == {"554"}
        await bench.wait_until(lambda: bench.engine.resident == 0)


async def test_ten_thousand_tokens_of_a_message_are_never_all_in_memory(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    alive = 0

    def deliver(delivery: Delivery) -> Outcome:
        nonlocal alive
        gateway.sent.clear()
        if delivery.number % 100 == 0:
            alive = max(alive, sum(type(one) is Delivery and one.token == MANY for one in gc.get_objects()))
        return DELIVERED

    gateway.script = deliver
    async with Bench(tmp_path, gateway) as bench:
        await warm(bench)
        await bench.accept(10_000, token=lambda number: MANY)
        await bench.wait_for_events(10_001, Kind.DELIVERY, within=20)
        assert 500 <= alive <= 3000


async def test_what_is_scheduled_is_sent_when_it_is_due_and_holds_nobody_up(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with Bench(tmp_path, gateway) as bench:
        later = await bench.accept(delay=0.5)
        now = await bench.accept()
        first, second = await bench.wait_for_events(2, Kind.DELIVERY)
        assert (first.id, second.id) == (f"{now}-1", f"{later}-1")
        assert second.queued >= 0.5
        assert second.attempt == 0
