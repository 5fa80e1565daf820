"""Large messages wait on the disk, not in memory."""

from __future__ import annotations

from pathlib import Path

from mcmt.engine.places import PULL_BYTES
from mcmt.message.event import Kind
from tests.support.engine_bench import Bench

from .scripted import ScriptedGateway

IN_A_PULL = 4


async def test_a_queue_holds_one_pull_of_large_messages_beside_what_is_on_the_wire(tmp_path: Path) -> None:
    """One connection that takes one at a time, as smtp's do. Of small messages hundreds would be held for it."""
    gateway = ScriptedGateway()
    gateway.room = 1
    async with Bench(tmp_path, gateway, max_outbound_connections=1) as bench:
        await bench.accept()
        await bench.wait_for_events(1, Kind.DELIVERY)
        gateway.delay = None
        for _ in range(8 * IN_A_PULL):
            await bench.accept(content=bytes(PULL_BYTES // IN_A_PULL))
        held = 0
        for done in range(1, 8 * IN_A_PULL + 1):
            await bench.wait_until(lambda done=done: len(gateway.sent) == 1 + done)  # type: ignore[misc]
            held = max(held, sum(status["ready"] for status in bench.engine.snapshot()))  # type: ignore[misc]
            gateway.open[0].answer()
        await bench.wait_for_events(1 + 8 * IN_A_PULL, Kind.DELIVERY)
        assert held <= 2 * IN_A_PULL
