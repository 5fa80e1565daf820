"""Writing verdicts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest

from mcmt.errors import SpoolError
from mcmt.message.event import Kind
from mcmt.spool.port import Selection
from mcmt.spool.sqlite import SHARD
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway


async def test_nothing_is_sent_while_results_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = ScriptedGateway()
    gateway.room = 10
    async with Bench(tmp_path, gateway) as bench:
        settle, full = bench.spool.settle, True

        async def refuse(*arguments: Any) -> None:
            if full:
                raise SpoolError("disk full")
            await settle(*arguments)

        monkeypatch.setattr(bench.spool, "settle", refuse)
        await bench.accept(200)
        await bench.wait_until(lambda: bench.engine._shared.settler.stuck)
        sent = len(gateway.sent)
        assert sent < 200
        await bench.accept(50)
        await bench.wait_until(lambda: len(gateway.sent) == sent)
        full = False
        assert len(await bench.wait_for_events(250, Kind.DELIVERY)) == 250
        assert len(gateway.sent) == 250, "each was sent once"


async def test_a_result_that_cannot_be_kept_holds_nobody_up_and_is_told_all_the_same(tmp_path: Path) -> None:
    """Someone has taken a row out of the spool's file by hand, while its delivery was on the wire."""
    gateway = ScriptedGateway()
    gateway.delay = None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(20)
        await bench.wait_until(lambda: len(gateway.sent) == 20)
        connection = apsw.Connection(str(tmp_path / "spool" / SHARD))
        connection.execute("DELETE FROM delivery WHERE row = 7")
        connection.close()
        gateway.open[0].answer()
        assert len(await bench.wait_for_events(20, Kind.DELIVERY, within=5.0)) == 20
        await bench.wait_until(lambda: bench.engine.resident == 0)
        assert await bench.left() == 0
        gateway.delay = 0.0
        await bench.accept()
        assert len(await bench.wait_for_events(21, Kind.DELIVERY, within=5.0)) == 21


async def test_a_channel_that_answers_a_delivery_twice_stops_nobody(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    gateway.delay = None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(2)
        await bench.wait_until(lambda: len(gateway.sent) == 2)
        first, second = gateway.sent
        report = gateway.open[0].report
        report.outcomes([(first, DELIVERED)])
        await bench.wait_for_events(1, Kind.DELIVERY)
        report.outcomes([(first, DELIVERED), (second, DELIVERED)])
        await bench.wait_for_events(2, Kind.DELIVERY)
        assert {event.id for event in await bench.events(Kind.DELIVERY)} == {first.id, second.id}
        gateway.open[0].owed.clear()


async def test_what_expires_while_results_cannot_be_written_stays_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a full disk and a backlog that expires would fill the memory."""
    async with Bench(tmp_path, ScriptedGateway(), suspend_delivery=True) as bench:
        settle, full = bench.spool.settle, True

        async def refuse(*arguments: Any) -> None:
            if full:
                raise SpoolError("disk full")
            await settle(*arguments)

        monkeypatch.setattr(bench.spool, "settle", refuse)
        await bench.accept(1, life=0.0)
        await bench.wait_until(lambda: bench.engine._shared.settler.stuck)
        await bench.accept(100, life=0.0)
        for _ in range(2):
            await asyncio.sleep(1.1)
            assert not any([entry.active for _, entry in await bench.spool.browse(Selection(), 0, 1000)][1:])
        full = False
        await bench.wait_for_events(101, Kind.PERMANENT, within=5.0)
