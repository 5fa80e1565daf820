"""One limit on connections for all the domains of a stanza."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcmt.message.event import Kind
from tests.support.engine_bench import Bench

from .scripted import ScriptedGateway


@pytest.mark.parametrize("stanza", ["*", r"/^domain\d/"])
async def test_all_domains_of_a_stanza_that_stands_for_many_share_its_connections(tmp_path: Path, stanza: str) -> None:
    gateway = ScriptedGateway()
    gateway.delay = 0.05
    async with Bench(tmp_path, gateway, others={stanza: {"max_outbound_connections": 3}}) as bench:
        for number in range(20):
            await bench.accept(5, domain=f"domain{number}.example.com")
        await bench.wait_for_events(100, Kind.DELIVERY, within=30)
        assert gateway.peak == 3


async def test_an_idle_connection_is_given_up_for_a_domain_that_waits(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    async with Bench(tmp_path, gateway, others={"*": {"max_outbound_connections": 1}}) as bench:
        await bench.accept(1, domain="first.example.com")
        await bench.wait_for_events(1, Kind.DELIVERY)
        assert len(gateway.open) == 1, "it stays open for idle_timeout when nobody needs it"
        await bench.accept(1, domain="second.example.com")
        await bench.wait_for_events(2, Kind.DELIVERY, within=2.0)
        assert gateway.peak == 1


async def test_a_domain_that_is_busy_for_long_does_not_give_up_its_connection(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    gateway.delay = None
    async with Bench(tmp_path, gateway, others={"*": {"max_outbound_connections": 1}}) as bench:
        await bench.accept(1, domain="busy.example.com")
        await bench.wait_until(lambda: len(gateway.sent) == 1)
        await bench.accept(1, domain="waiting.example.com")
        await asyncio.sleep(0.3)
        assert [delivery.domain for delivery in gateway.sent] == ["busy.example.com"]
        gateway.delay = 0.0
        gateway.open[0].answer()
        await bench.wait_for_events(2, Kind.DELIVERY, within=5.0)
        assert gateway.peak == 1
