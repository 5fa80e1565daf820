"""A route that is new, or was down, is not met with all connections at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcmt.errors import ConnectError
from tests.support.engine_bench import Bench
from tests.support.manual_clock import ManualClock

from .scripted import DELIVERED, ScriptedGateway, transient
from .test_pace import pass_time, settle


@pytest.fixture
def gateway() -> ScriptedGateway:
    gateway = ScriptedGateway()
    gateway.room, gateway.delay = 10, None
    return gateway


async def answer_all(gateway: ScriptedGateway, clock: ManualClock, turns: int) -> None:
    """Each connection answers what it owes, and a second goes by."""
    for _ in range(turns):
        for connection in list(gateway.open):
            connection.answer()
        await pass_time(clock, 1.0, step=1.0)


async def test_a_new_route_gets_a_connection_more_for_every_so_many_that_succeed(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    clock = ManualClock()
    async with Bench(tmp_path, gateway, clock=clock, connection_ramp_up=40, max_outbound_connections=3) as bench:
        await bench.accept(400)
        await settle()
        await answer_all(gateway, clock, 3)
        assert len(gateway.open) == 1, "30 have succeeded"
        await answer_all(gateway, clock, 1)
        assert len(gateway.open) == 2
        await answer_all(gateway, clock, 2)
        assert len(gateway.open) == 3, "more than 80"
        await answer_all(gateway, clock, 6)
        assert gateway.peak == 3, "the limit is the limit"


async def test_what_fails_for_a_while_brings_no_connection(tmp_path: Path, gateway: ScriptedGateway) -> None:
    clock = ManualClock()
    gateway.script = lambda _: transient()
    async with Bench(tmp_path, gateway, clock=clock, connection_ramp_up=10, retry_interval=1.0) as bench:
        await bench.accept(400)
        await settle()
        await answer_all(gateway, clock, 20)
        assert gateway.peak == 1
        gateway.script = lambda _: DELIVERED
        await answer_all(gateway, clock, 4)
        assert len(gateway.open) >= 2


async def test_a_route_that_was_down_begins_anew(tmp_path: Path, gateway: ScriptedGateway) -> None:
    clock = ManualClock()
    async with Bench(tmp_path, gateway, clock=clock, connection_ramp_up=10, max_outbound_connections=4) as bench:
        await bench.accept(2000)
        await settle()
        await answer_all(gateway, clock, 6)
        assert len(gateway.open) == 4
        gateway.connect_error = ConnectError("connection refused")
        for connection in list(gateway.open):
            connection.answer()
            connection.end("gone")
        await pass_time(clock, 5.0, step=1.0)
        assert not gateway.open
        gateway.connect_error = None
        async with asyncio.timeout(20):
            while not gateway.open:
                await pass_time(clock, 1.0, step=1.0)
        await pass_time(clock, 5.0, step=1.0)
        assert len(gateway.open) == 1, "though many had succeeded before"
        await answer_all(gateway, clock, 1)
        assert len(gateway.open) == 2
        await answer_all(gateway, clock, 5)
        assert len(gateway.open) == 4
