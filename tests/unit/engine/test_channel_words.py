"""Words of a channel that cannot be written as they are must not stop what everybody else has."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcmt.errors import ConnectError
from mcmt.message.event import Kind
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway

STRANGE = "a lone surrogate \ud800 and \udcff"


@pytest.mark.parametrize("disposition", [Disposition.DELIVERED, Disposition.TRANSIENT, Disposition.PERMANENT])
async def test_an_outcome_that_is_no_text_is_written_in_escapes(tmp_path: Path, disposition: Disposition) -> None:
    gateway = ScriptedGateway()
    gateway.script = lambda delivery: (
        Outcome(disposition=disposition, code="5", text=STRANGE, remote_id=STRANGE)
        if delivery.attempts == 0
        else DELIVERED
    )
    async with Bench(tmp_path, gateway, generate_bounces=True) as bench:
        await bench.accept()
        kinds = (Kind.DELIVERY, Kind.TRANSIENT, Kind.PERMANENT)
        event = (await bench.wait_for_events(1, *kinds, within=3.0))[0]
        assert event.text == r"a lone surrogate \ud800 and \udcff"


async def test_a_reason_for_which_a_route_is_down_is_written_in_escapes(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    gateway.connect_error = ConnectError(STRANGE)
    async with Bench(tmp_path, gateway, others={"other.example.com": {}}) as bench:
        await bench.accept()
        (event,) = await bench.wait_for_events(1, Kind.ROUTE, within=3.0)
        assert r"\ud800" in event.text
