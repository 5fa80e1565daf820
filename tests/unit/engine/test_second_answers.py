"""A channel that answers a delivery more than once: the first answer counts, and nothing else is upset."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcmt.message.event import Kind
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway, transient

REFUSED = Outcome(disposition=Disposition.REFUSED, code="503", text="Shutdown")


@pytest.mark.parametrize("second", [DELIVERED, transient(), REFUSED], ids=["delivered", "transient", "refused"])
async def test_two_answers_in_one_burst_count_once(tmp_path: Path, second: Outcome) -> None:
    gateway = ScriptedGateway()
    gateway.delay = None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(1)
        await bench.wait_until(lambda: len(gateway.sent) == 1)
        (delivery,) = gateway.sent
        connection = gateway.open[0]
        connection.owed.clear()
        connection.report.outcomes([(delivery, DELIVERED), (delivery, second)])
        await bench.wait_for_events(1, Kind.DELIVERY)
        gateway.delay = 0.0
        await bench.accept(1)
        await bench.wait_for_events(2, Kind.DELIVERY, within=3.0)
        await bench.wait_until(lambda: bench.engine.resident == 0, within=2.0)
        assert len(gateway.sent) == 2


async def test_a_second_answer_later_frees_no_second_place(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    gateway.delay = None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(1)
        await bench.wait_until(lambda: len(gateway.sent) == 1)
        (delivery,) = gateway.sent
        connection = gateway.open[0]
        connection.owed.clear()
        connection.report.outcomes([(delivery, DELIVERED)])
        await bench.wait_for_events(1, Kind.DELIVERY)
        connection.report.outcomes([(delivery, DELIVERED)])
        gateway.delay = 0.0
        await bench.accept(1)
        await bench.wait_for_events(2, Kind.DELIVERY)
        assert bench.engine.resident == 0
