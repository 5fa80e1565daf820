"""Suspending, resuming and retrying by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcmt.engine.places import PULL_BYTES
from mcmt.errors import ConnectError, ControlError, SpoolError
from mcmt.message.event import Kind
from mcmt.message.status import Disposition, Outcome
from mcmt.spool.port import Pulled
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway, transient

DOMAIN = "push.example.com"


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


async def test_a_suspended_domain_keeps_its_mail_and_sends_it_when_resumed(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with Bench(tmp_path, gateway) as bench:
        bench.engine.suspend(DOMAIN, "maintenance")
        await bench.accept(20)
        await asyncio.sleep(0.2)
        assert gateway.sent == []
        assert bench.engine.resident == 0, "what is not sent lies on disk"
        bench.engine.resume(DOMAIN)
        await bench.wait_for_events(20, Kind.DELIVERY)
        assert [(event.phase, event.text) for event in await bench.events(Kind.ROUTE)] == [
            ("suspended", "by hand: maintenance"),
            ("resumed", "by hand"),
        ]


async def test_a_suspension_holds_over_a_restart(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway) as bench:
        bench.engine.suspend(DOMAIN, "maintenance")
        await bench.accept(5)
    async with Bench(tmp_path, gateway) as bench:
        await asyncio.sleep(0.2)
        assert gateway.sent == []
        assert bench.engine.suspended()[DOMAIN].reason == "maintenance"
        bench.engine.resume(DOMAIN)
        await bench.wait_for_events(5, Kind.DELIVERY)


async def test_what_was_ready_goes_back_and_what_is_on_the_wire_is_answered(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.room, gateway.delay = 5, None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(40)
        await bench.wait_until(lambda: len(gateway.sent) == 5)
        bench.engine.suspend(DOMAIN, "maintenance")
        assert bench.engine.resident == 5
        gateway.open[0].answer()
        await bench.wait_for_events(5, Kind.DELIVERY)
        await asyncio.sleep(0.1)
        assert len(gateway.sent) == 5
        gateway.delay = 0.0
        bench.engine.resume(DOMAIN)
        await bench.wait_for_events(40, Kind.DELIVERY)
        assert len(gateway.sent) == 40, "nothing was sent twice"


async def test_a_retry_by_hand_tries_what_waits_once_and_no_more(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: transient()
    async with Bench(tmp_path, gateway, retry_interval=500.0, max_retry_interval=900.0) as bench:
        await bench.accept(700)
        await bench.wait_for_events(700, Kind.TRANSIENT)
        bench.engine.retry(DOMAIN)
        await bench.wait_for_events(1400, Kind.TRANSIENT)
        await asyncio.sleep(0.3)
        assert len(gateway.sent) == 1400
        gateway.script = lambda delivery: DELIVERED
        bench.engine.retry(DOMAIN)
        await bench.wait_for_events(700, Kind.DELIVERY)


async def test_a_retry_by_hand_ends_the_back_off_of_the_route(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.connect_error = ConnectError("connection refused")
    async with Bench(tmp_path, gateway, max_retry_interval=60.0) as bench:
        await bench.accept()
        await bench.wait_until(lambda: len(gateway.connects_to) == 3)
        gateway.connect_error = None
        bench.engine.retry(DOMAIN)
        await bench.wait_for_events(1, Kind.DELIVERY, within=1.0)


async def test_what_cannot_be_done_is_refused_with_a_reason(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway, others={"off.example.com": {"suspend_delivery": True}}) as bench:
        with pytest.raises(ControlError, match=r"no stanza for x\.example\.com"):
            bench.engine.suspend("x.example.com", "")
        with pytest.raises(ControlError, match=r"no stanza for x\.example\.com"):
            bench.engine.retry("x.example.com")
        with pytest.raises(ControlError, match="suspend_delivery"):
            bench.engine.resume("off.example.com")
        bench.engine.suspend(DOMAIN, "maintenance")
        with pytest.raises(ControlError, match="maintenance"):
            bench.engine.retry(DOMAIN)


async def test_a_retry_by_hand_reaches_large_messages_that_no_single_pull_can_hold(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.script = lambda delivery: transient()
    async with Bench(tmp_path, gateway, retry_interval=500.0, max_retry_interval=900.0) as bench:
        for _ in range(12):
            await bench.accept(content=bytes(PULL_BYTES // 4))
        await bench.wait_for_events(12, Kind.TRANSIENT)
        gateway.script = lambda delivery: DELIVERED
        bench.engine.retry(DOMAIN)
        await bench.wait_for_events(12, Kind.DELIVERY, within=3.0)


async def test_a_retry_of_what_the_configuration_suspends_is_refused(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway, suspend_delivery=True) as bench:
        with pytest.raises(ControlError, match="suspend_delivery"):
            bench.engine.retry(DOMAIN)


@pytest.mark.parametrize("what", ["suspend", "resume"])
async def test_a_suspension_that_cannot_be_kept_changes_nothing(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async with Bench(tmp_path, gateway) as bench:
        if what == "resume":
            bench.engine.suspend(DOMAIN, "maintenance")
        before = bench.engine.suspended()

        def full(*arguments: object) -> None:
            raise SpoolError("disk full")

        monkeypatch.setattr(bench.state, "put", full)
        with pytest.raises(SpoolError):
            bench.engine.suspend(DOMAIN, "again") if what == "suspend" else bench.engine.resume(DOMAIN)
        assert bench.engine.suspended() == before


async def test_the_catch_all_stanza_is_no_domain_to_suspend(tmp_path: Path, gateway: ScriptedGateway) -> None:
    """Nothing is routed to a domain called ``*``: a suspension of it would be a promise that nothing keeps."""
    async with Bench(tmp_path, gateway, others={"*": {}}) as bench:
        with pytest.raises(ControlError, match="each of its domains"):
            bench.engine.suspend("*", "maintenance")
        with pytest.raises(ControlError, match="each of its domains"):
            bench.engine.resume("*")
        with pytest.raises(ControlError, match="each of its domains"):
            bench.engine.retry("*")


async def test_what_arrives_in_the_middle_of_a_suspension_goes_back_as_well(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.room, gateway.delay = 5, None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(5)
        await bench.wait_until(lambda: len(gateway.sent) == 5)
        pull, asked, go_on = bench.spool.pull, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any) -> Pulled:
            found = await pull(*arguments)
            asked.set()
            await go_on.wait()
            return found

        monkeypatch.setattr(bench.spool, "pull", slow)
        bench.engine.suspend(DOMAIN, "what comes now is not handed over, and has to be pulled")
        await bench.accept(20)
        bench.engine.resume(DOMAIN)
        await asked.wait()
        bench.engine.suspend(DOMAIN, "maintenance")
        go_on.set()
        gateway.open[0].answer(Outcome(disposition=Disposition.REFUSED, code="503", text="Shutdown"))
        await bench.wait_until(lambda: bench.engine.resident == 0, within=2.0)
        gateway.delay = 0.0
        bench.engine.resume(DOMAIN)
        await bench.wait_for_events(25, Kind.DELIVERY)
        assert len(gateway.sent) == 30
