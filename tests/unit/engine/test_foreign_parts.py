"""A domain that was given another delivery_method while deliveries with the other channel's parts lay in the spool."""

from __future__ import annotations

from pathlib import Path

from mcmt.message.event import Kind
from tests.support.engine_bench import Bench

from .scripted import ScriptedGateway


async def test_a_part_that_the_channel_does_not_render_is_never_sent_and_fails_with_a_reason(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    async with Bench(tmp_path, gateway) as bench:
        mail = await bench.accept(3, media_type="message/rfc822")
        await bench.accept(2)
        await bench.wait_for_events(2, Kind.DELIVERY)
        failed = await bench.wait_for_events(3, Kind.PERMANENT, within=3.0)
        assert {event.batch_id for event in failed} == {mail}
        assert {(event.code, event.text) for event in failed} == {
            ("554", "5.6.1 [internal] the message has no part for this channel")
        }
        assert len(gateway.sent) == 2
        await bench.wait_until(lambda: bench.engine.resident == 0)
        assert await bench.left() == 0
