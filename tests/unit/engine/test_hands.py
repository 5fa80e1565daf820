"""What an operator does to selected deliveries, while they lie in the spool, are ready, or are on the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcmt.engine.hands import MAX_REASON, Handled, Verb, Work
from mcmt.errors import ControlError, SpoolError
from mcmt.message.event import Kind
from mcmt.spool.port import Selection
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway, transient

DOMAIN, OTHER = "push.example.com", "other.example.com"
PLENTY = 1 << 60
VERBS: tuple[Verb, ...] = ("bounce", "hold")


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


ALL = Selection()


async def work(bench: Bench, verb: Verb, selection: Selection = ALL, reason: str = "", to: str = "") -> Handled:
    """Everything that is selected, in one page."""
    chosen = await bench.spool.choose(selection, 0, PLENTY, 10_000)
    return await bench.engine.by_hand(Work(verb, reason, to), chosen.domains)


async def test_what_is_ended_has_one_final_line_and_the_senders_are_told(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with Bench(tmp_path, gateway, generate_bounces=True, suspend_delivery=True) as bench:
        await bench.accept(20)
        assert await work(bench, "bounce", reason="wrong\ncampaign") == Handled(done=20)
        failed = await bench.events(Kind.PERMANENT)
        assert len({event.id for event in failed}) == len(failed) == 20
        assert {(event.code, event.text) for event in failed} == {
            ("554", "5.7.0 [internal] manually failed: wrong campaign")
        }
        (owed,) = await bench.spool.pull_reports(bench.clock.time(), 10)
        assert (owed.count, owed.return_path) == (20, "app@example.com")
        assert await bench.left() == 0


async def test_what_is_deleted_has_one_final_line_and_nobody_is_told(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway, generate_bounces=True, suspend_delivery=True) as bench:
        await bench.accept(20)
        assert await work(bench, "delete", reason="x" * 1000) == Handled(done=20)
        failed = await bench.events(Kind.PERMANENT)
        assert len(failed) == 20
        assert failed[0].text == f"5.7.0 [internal] manually failed: {'x' * MAX_REASON}"
        assert await bench.spool.owed() == 0
        assert await bench.left() == 0


async def test_what_is_on_the_wire_is_left_alone_and_what_is_only_ready_is_ended(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.room, gateway.delay = 5, None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(100)
        await bench.wait_until(lambda: len(gateway.sent) == 5)
        assert bench.engine.resident > 5
        assert await work(bench, "delete", reason="stop") == Handled(done=95, busy=5)
        assert bench.engine.resident == 5, "places of what was ready are free again"
        assert not {one.id for one in gateway.sent} & {event.id for event in await bench.events(Kind.PERMANENT)}
        gateway.open[0].answer()
        assert len(await bench.wait_for_events(5, Kind.DELIVERY)) == 5
        gateway.delay = 0.0
        await bench.accept(3)
        await bench.wait_for_events(8, Kind.DELIVERY)
        assert (len(gateway.sent), await bench.left()) == (8, 0)


async def test_under_load_every_delivery_ends_once_whoever_ends_it(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.delay = 0.001
    async with Bench(tmp_path, gateway, max_resident_active_queue=300) as bench:
        await bench.accept(3000)
        done = 0
        after: int | None = 0
        while after is not None:
            page = await bench.spool.choose(Selection(), after, PLENTY, 50)
            done += (await bench.engine.by_hand(Work("delete", "stop"), page.domains)).done
            after = page.after
        ended = await bench.wait_for_events(3000, Kind.DELIVERY, Kind.PERMANENT)
        assert len({event.id for event in ended}) == len(ended) == 3000
        assert done == sum(event.kind is Kind.PERMANENT for event in ended) > 0


async def test_held_deliveries_are_not_sent_until_they_are_released(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.room = 0
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(10)
        await bench.wait_until(lambda: bench.engine.resident == 10)
        assert await work(bench, "hold", reason="ask first") == Handled(done=10)
        assert await work(bench, "retry", Selection(held=True)) == Handled(done=10)
        bench.engine.retry(DOMAIN)
        await asyncio.sleep(0.1)
        assert gateway.sent == []
    gateway.room = 1000
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(1)
        await bench.wait_for_events(1, Kind.DELIVERY)
        assert len(gateway.sent) == 1, "over a restart too"
        assert await work(bench, "release", Selection(held=True)) == Handled(done=10)
        await bench.wait_for_events(11, Kind.DELIVERY)
        assert [(event.phase, event.text) for event in await bench.events(Kind.ROUTE) if "by hand" in event.text] == [
            ("held", "by hand: 10 deliveries: ask first"),
            ("released", "by hand: 10 deliveries"),
        ]


async def test_held_deliveries_expire(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway, suspend_delivery=True) as bench:
        await bench.accept(3, life=1.0)
        await work(bench, "hold")
        assert {event.text[:5] for event in await bench.wait_for_events(3, Kind.PERMANENT)} == {"5.4.7"}


async def test_only_what_is_selected_is_tried_now(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: transient(f"Reason{delivery.number % 2}")
    async with Bench(tmp_path, gateway, retry_interval=500.0, max_retry_interval=900.0) as bench:
        await bench.accept(40)
        await bench.wait_for_events(40, Kind.TRANSIENT)
        await bench.wait_until(lambda: bench.engine.resident == 0)
        gateway.script = lambda delivery: DELIVERED
        assert await work(bench, "retry", Selection(last_error="reason1")) == Handled(done=20)
        assert {event.id.rpartition("-")[2] for event in await bench.wait_for_events(20, Kind.DELIVERY)} == {
            str(number) for number in range(1, 41, 2)
        }
        await asyncio.sleep(0.1)
        assert len(gateway.sent) == 60


async def test_rerouted_deliveries_go_through_the_other_stanza(tmp_path: Path, gateway: ScriptedGateway) -> None:
    others: dict[str, Any] = {OTHER: {"suspend_delivery": False}, "mail.example.com": {"delivery_method": "mail"}}
    channels = {"mail": ScriptedGateway()}
    async with Bench(tmp_path, gateway, suspend_delivery=True, others=others, channels=channels) as bench:
        await bench.accept(30)
        assert await work(bench, "reroute", to="mail.example.com") == Handled(unfit=30)
        assert await work(bench, "reroute", to=OTHER) == Handled(done=30)
        delivered = await bench.wait_for_events(30, Kind.DELIVERY)
        assert {(event.domain, event.recipient) for event in delivered} == {(OTHER, f"user@{DOMAIN}")}
        assert {event.token for event in delivered} == {f"{number:064x}" for number in range(1, 31)}
        with pytest.raises(ControlError, match="no stanza for nowhere"):
            await work(bench, "reroute", to="nowhere.example.com")


@pytest.mark.parametrize("stanza", ["*", "/^push/"])
async def test_a_stanza_that_stands_for_many_domains_is_none(
    tmp_path: Path, gateway: ScriptedGateway, stanza: str
) -> None:
    async with Bench(tmp_path, gateway, suspend_delivery=True, others={stanza: {}}) as bench:
        await bench.accept(1)
        with pytest.raises(ControlError, match="no stanza for"):
            await work(bench, "reroute", to=stanza)
        with pytest.raises(ControlError, match="is a stanza and not a domain"):
            bench.engine.suspend(stanza, "test")


async def test_what_the_disk_does_not_take_stays_as_it_was(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.room = 0
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(10)
        await bench.wait_until(lambda: bench.engine.resident == 10)

        async def full(*_: object) -> None:
            raise SpoolError("disk full")

        with monkeypatch.context() as broken:
            broken.setattr(bench.spool, "settle", full)
            broken.setattr(bench.spool, "change", full)
            for verb in VERBS:
                with pytest.raises(SpoolError, match="disk full"):
                    await work(bench, verb)
        gateway.room = 100
        gateway.open[0].report.wake()
        await bench.wait_for_events(10, Kind.DELIVERY)


async def test_a_page_is_done_to_its_end_when_whoever_asked_is_gone(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway, suspend_delivery=True) as bench:
        await bench.accept(10)
        asking = asyncio.create_task(work(bench, "delete"))
        await bench.wait_until(lambda: bool(bench.engine._hands._tasks))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert len(await bench.wait_for_events(10, Kind.PERMANENT)) == 10
        assert await bench.left() == 0


async def test_what_has_no_stanza_any_more_can_be_ended_and_rerouted(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(2, domain="gone.example.com")
        first = Selection(token=f"{1:064x}")
        assert await work(bench, "delete", first, reason="no stanza") == Handled(done=1)
        assert await work(bench, "reroute", to=DOMAIN) == Handled(done=1)
        await bench.wait_for_events(1, Kind.DELIVERY)


async def test_a_suspension_ends_by_itself_also_over_a_restart(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway) as bench:
        bench.engine.suspend(DOMAIN, "for a while", until=bench.clock.time() + 1.5)
        await bench.accept(5)
    async with Bench(tmp_path, gateway) as bench:
        assert bench.engine.suspended()[DOMAIN].until > 0
        assert gateway.sent == []
        await bench.wait_for_events(5, Kind.DELIVERY)
        assert bench.engine.suspended() == {}
        assert [event.phase for event in await bench.events(Kind.ROUTE)] == ["suspended", "resumed"]
    async with Bench(tmp_path, gateway) as bench:
        assert bench.engine.suspended() == {}
