"""A newer push ends the queued one: one final line that says so, no report, and it is not sent any more."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mcmt.message.event import Event, Kind
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway, transient

DOMAIN = "push.example.com"
KEY = b"score"
REFUSED = Outcome(disposition=Disposition.REFUSED, code="", text="GOAWAY")


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


def make(tmp_path: Path, gateway: ScriptedGateway, **changes: Any) -> Bench:
    return Bench(tmp_path, gateway, max_outbound_connections=1, generate_bounces=True, **changes)


async def ends(bench: Bench, count: int) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for one in await bench.wait_for_events(count, Kind.DELIVERY, Kind.PERMANENT):
        found.setdefault(one.batch_id, []).append(one)
    return found


def is_superseded(events: list[Event], by: str) -> bool:
    (one,) = events
    return (one.kind, one.code, one.text) == (Kind.PERMANENT, "554", f"5.7.0 [internal] superseded by {by}")


async def test_what_waits_in_the_queue_is_ended_and_the_newer_one_is_sent(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.connect_error = ConnectionRefusedError("down")
    async with make(tmp_path, gateway) as bench:
        batches = [await bench.accept(collapse=KEY) for _ in range(5)]
        other = await bench.accept(collapse=b"news")
        plain = await bench.accept()
        found = await ends(bench, 4)
        for old, new in pairwise(batches):
            assert is_superseded(found[old], new)
        gateway.connect_error = None
        found = await ends(bench, 7)
        assert {one.sender.batch_id for one in gateway.sent} == {batches[-1], other, plain}
        assert await bench.left() == 0
        assert await bench.spool.owed() == 0


async def test_what_waits_for_another_attempt_is_ended_at_once(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: DELIVERED if len(gateway.sent) > 1 else transient()
    async with make(tmp_path, gateway, retry_interval=600.0, max_retry_interval=600.0) as bench:
        old = await bench.accept(collapse=KEY)
        await bench.wait_for_events(1, Kind.TRANSIENT)
        new = await bench.accept(collapse=KEY)
        found = await ends(bench, 2)
        assert is_superseded(found[old], new)
        assert [one.sender.batch_id for one in gateway.sent] == [old, new]


@pytest.mark.parametrize("answer", [DELIVERED, transient(), REFUSED])
async def test_of_what_is_on_the_wire_the_answer_decides_and_it_is_not_sent_again(
    tmp_path: Path, gateway: ScriptedGateway, answer: Outcome
) -> None:
    gateway.delay = None
    async with make(tmp_path, gateway, retry_interval=0.01) as bench:
        old = await bench.accept(collapse=KEY)
        await bench.wait_until(lambda: len(gateway.sent) == 1)
        new = await bench.accept(collapse=KEY)
        gateway.delay = 0.0
        gateway.open[0].answer(answer)
        found = await ends(bench, 2)
        if answer is DELIVERED:
            assert [one.kind for one in found[old]] == [Kind.DELIVERY]
        else:
            assert is_superseded(found[old], new)
        assert [one.sender.batch_id for one in gateway.sent] == [old, new]
        await bench.wait_until(lambda: bench.engine.resident == 0)


async def test_a_suspended_domain_keeps_the_newest_alone(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with make(tmp_path, gateway) as bench:
        bench.engine.suspend(DOMAIN, "maintenance")
        batches = [await bench.accept(3, collapse=KEY) for _ in range(3)]
        found = await ends(bench, 6)
        assert set(found) == set(batches[:2])
        assert await bench.left() == 3
        bench.engine.resume(DOMAIN)
        await ends(bench, 9)
        assert {one.sender.batch_id for one in gateway.sent} == {batches[-1]}


async def test_over_a_crash_between_the_commit_and_the_end_it_is_not_sent(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    """The mark is on disk with the newer message: whoever opens the spool next ends what has it."""
    bench = make(tmp_path, gateway)
    async with bench:
        await bench.engine.drain(0.1)  # nobody hears what is accepted now
        old = await bench.accept(collapse=KEY)
        new = await bench.accept(collapse=KEY)
    async with bench:
        found = await ends(bench, 2)
        assert is_superseded(found[old], new)
        assert [one.sender.batch_id for one in gateway.sent] == [new]


async def test_however_fast_they_come_each_ends_once_and_the_last_one_is_sent(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.room, gateway.delay = 2, 0.001
    gateway.script = lambda delivery: transient() if delivery.row % 5 == 0 and not delivery.attempts else DELIVERED
    async with make(tmp_path, gateway, retry_interval=0.01, max_retry_interval=0.02) as bench:
        for _ in range(30):
            await asyncio.gather(*[bench.accept(collapse=b"%d" % key) for key in range(10)])
        found = await ends(bench, 300)
        await bench.wait_until(lambda: bench.engine.resident == 0)
        assert {len(events) for events in (await ends(bench, 300)).values()} == {1}
        assert len(found) == 300
        assert await bench.left() == 0
        by = {old: one.text.rpartition(" ")[2] for old, (one,) in found.items() if one.kind is Kind.PERMANENT}
        sent = [one.sender.batch_id for one in gateway.sent]
        for old, new in by.items():
            if old in sent and new in sent:
                assert max(n for n, one in enumerate(sent) if one == old) < sent.index(new)
