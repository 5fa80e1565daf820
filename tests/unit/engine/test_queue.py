"""What the engine does with deliveries, seen from a gateway that follows a script and a real spool."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mcmt.errors import ConnectError, RouteFaultError, SpoolError
from mcmt.message.event import Kind
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedGateway, transient


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


async def test_a_delivered_message_leaves_the_spool_with_one_event(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway) as bench:
        batch_id = await bench.accept()
        (event,) = await bench.wait_for_events(1, Kind.DELIVERY)
        assert event.id == f"{batch_id}-1"
        assert event.domain == "push.example.com"
        assert await bench.left() == 0


async def test_a_transient_answer_is_tried_again_under_the_same_id(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: transient() if delivery.attempts == 0 else DELIVERED
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept()
        (delivered,) = await bench.wait_for_events(1, Kind.DELIVERY)
        (tried,) = await bench.events(Kind.TRANSIENT)
        assert tried.id == delivered.id
        assert (tried.attempt, delivered.attempt) == (0, 1)
        assert (tried.code, tried.text) == ("500", "InternalServerError")
        assert await bench.left() == 0


async def test_used_up_retries_end_in_one_failure(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.script = lambda delivery: transient()
    async with Bench(tmp_path, gateway, max_retries=2) as bench:
        await bench.accept()
        (failed,) = await bench.wait_for_events(1, Kind.PERMANENT)
        assert failed.text == "5.4.7 [internal] exceeded max retries without delivery"
        assert len(await bench.events(Kind.TRANSIENT)) == 3, "the first attempt and two retries"
        assert await bench.left() == 0


async def test_an_ambiguous_answer_is_retried_or_failed_as_the_option_says(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    lost = Outcome(disposition=Disposition.AMBIGUOUS, code="451", text="4.4.2 [internal] no answer within 30000 ms")
    gateway.script = lambda delivery: lost if delivery.attempts == 0 else DELIVERED
    async with Bench(tmp_path / "retry", gateway) as bench:
        await bench.accept()
        await bench.wait_for_events(1, Kind.DELIVERY)
        assert len(await bench.events(Kind.TRANSIENT)) == 1
    async with Bench(tmp_path / "fail", gateway, ambiguous="fail") as bench:
        await bench.accept()
        (failed,) = await bench.wait_for_events(1, Kind.PERMANENT)
        assert "may have been delivered" in failed.text


async def test_the_limit_on_connections_is_reached_and_kept(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.room, gateway.delay = 5, 0.05
    async with Bench(tmp_path, gateway, max_outbound_connections=3) as bench:
        await bench.accept(400)
        await bench.wait_until(lambda: len(gateway.open) == 3)
        await bench.wait_for_events(400, Kind.DELIVERY)
        assert gateway.peak == 3
        assert gateway.peak_in_flight == 5


async def test_no_second_connection_opens_while_the_first_has_answered_nothing(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.room, gateway.delay = 5, None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(100)
        await bench.wait_until(lambda: len(gateway.sent) == 5)
        await asyncio.sleep(1.2)  # longer than the spacing between connections
        assert len(gateway.open) == 1


async def test_no_second_connection_opens_while_the_first_has_room(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.delay = 0.01
    async with Bench(tmp_path, gateway) as bench:
        for _ in range(30):
            await bench.accept(20)
        await bench.wait_for_events(600, Kind.DELIVERY)
        assert gateway.peak == 1


async def test_a_connection_takes_no_more_than_max_deliveries_per_connection(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with Bench(tmp_path, gateway, max_deliveries_per_connection=10, max_outbound_connections=1) as bench:
        await bench.accept(35)
        await bench.wait_for_events(35, Kind.DELIVERY)
        assert [connection.taken for connection in gateway.all] == [10, 10, 10, 5]
        assert gateway.peak == 1, "the next one opens when the spent one has closed"


async def test_an_idle_connection_is_closed_after_idle_timeout(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway, idle_timeout=0.1) as bench:
        await bench.accept()
        await bench.wait_for_events(1, Kind.DELIVERY)
        await bench.wait_until(lambda: not gateway.open)


async def test_a_gateway_that_refuses_everything_meets_a_back_off_and_no_attempt_is_counted(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.script = lambda delivery: Outcome(disposition=Disposition.REFUSED, code="503", text="Shutdown")
    async with Bench(tmp_path, gateway, max_retry_interval=60.0) as bench:
        await bench.accept()
        await asyncio.sleep(0.7)
        assert len(gateway.sent) == 2, "two refusals in a row are a back-off"
        gateway.script = lambda delivery: DELIVERED
        (event,) = await bench.wait_for_events(1, Kind.DELIVERY)
        assert event.attempt == 0
        assert [event.phase for event in await bench.events(Kind.ROUTE)] == ["down", "up"]


async def test_refused_deliveries_keep_their_order(tmp_path: Path, gateway: ScriptedGateway) -> None:
    refusals = iter([True] * 4)
    gateway.room = 4
    gateway.script = lambda delivery: (
        Outcome(disposition=Disposition.REFUSED, code="503", text="Shutdown") if next(refusals, False) else DELIVERED
    )
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(8)
        await bench.wait_for_events(8, Kind.DELIVERY)
        assert [delivery.number for delivery in gateway.sent] == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_route_fault_keeps_the_mail_and_ends_by_a_probe_of_one_delivery(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.script = lambda delivery: Outcome(disposition=Disposition.ROUTE_FAULT, code="403", text="BadCertificate")
    async with Bench(tmp_path, gateway, max_retry_interval=0.5) as bench:
        await bench.accept(50)
        await bench.wait_until(lambda: len(gateway.sent) == 50)
        await bench.wait_for_events(2, Kind.ROUTE)
        assert len(gateway.sent) == 51, "the probe is one delivery alone"
        gateway.script = lambda delivery: DELIVERED
        await bench.wait_for_events(50, Kind.DELIVERY)
        assert await bench.events(Kind.TRANSIENT, Kind.PERMANENT) == []
        assert [event.phase for event in await bench.events(Kind.ROUTE)] == ["suspended", "probe", "resumed"]


@pytest.mark.parametrize(
    "error", [ConnectError("connection refused"), RouteFaultError("no key"), ValueError("a bug"), TimeoutError()]
)
async def test_a_dead_route_costs_a_handful_of_resident_deliveries_and_no_attempts(
    tmp_path: Path, gateway: ScriptedGateway, error: BaseException
) -> None:
    gateway.connect_error = error
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(5000)
        await bench.wait_until(lambda: len(gateway.connects_to) >= 2)
        assert bench.engine.resident <= 50
        gateway.connect_error = None
        await bench.wait_for_events(5000, Kind.DELIVERY)
        assert Counter(event.attempt for event in await bench.events(Kind.DELIVERY)) == {0: 5000}


async def test_connecting_is_given_up_after_connect_timeout(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*arguments: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(gateway, "connect", never)
    async with Bench(tmp_path, gateway, connect_timeout=0.1) as bench:
        await bench.accept()
        (event,) = await bench.wait_for_events(1, Kind.ROUTE)
        assert event.phase == "down"
        assert "connect_timeout (0.1 s)" in event.text


async def test_the_second_route_is_the_first_ones_failover(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = gateway.connect

    async def first_is_down(route: Any, *arguments: Any) -> Any:
        if route.host == "one":
            gateway.connects_to.append(route)
            raise ConnectError("connection refused")
        return await connect(route, *arguments)

    monkeypatch.setattr(gateway, "connect", first_is_down)
    async with Bench(tmp_path, gateway, routes=("test://one", "test://two")) as bench:
        await bench.accept()
        await bench.wait_for_events(1, Kind.DELIVERY, within=2.0)
        assert [route.host for route in gateway.connects_to] == ["one", "two"]


async def test_a_delivery_whose_life_ended_in_the_spool_fails_without_being_sent(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with Bench(tmp_path, gateway, suspend_delivery=True) as bench:
        await bench.accept(3, life=0.1)
        events = await bench.wait_for_events(3, Kind.PERMANENT)
        assert {event.text for event in events} == {"5.4.7 [internal] exceeded max time without delivery"}
        assert gateway.sent == []
        assert await bench.left() == 0


async def test_a_delivery_whose_life_ends_while_it_waits_for_a_connection_is_never_sent(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.connect_error = ConnectError("connection refused")
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(3, life=0.5)
        await bench.wait_for_events(3, Kind.PERMANENT)
        gateway.connect_error = None
        await bench.accept()
        await bench.wait_for_events(1, Kind.DELIVERY)
        assert len(gateway.sent) == 1


async def test_deliveries_of_a_domain_without_a_stanza_still_expire(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(2, domain="gone.example.com", life=0.1)
        await bench.wait_for_events(2, Kind.PERMANENT)


async def test_suspend_delivery_sends_nothing_and_does_not_hold_up_others(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with Bench(tmp_path, gateway, others={"suspended.example.com": {"suspend_delivery": True}}) as bench:
        await bench.accept(5, domain="suspended.example.com")
        await bench.accept(1)
        await bench.wait_for_events(1, Kind.DELIVERY)
        assert {delivery.domain for delivery in gateway.sent} == {"push.example.com"}
        assert await bench.left() == 5


async def test_draining_waits_for_answers_and_writes_them(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.delay = 0.3
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(10)
        await bench.wait_until(lambda: len(gateway.sent) == 10)
        await bench.engine.drain(5.0)
        assert len(await bench.events(Kind.DELIVERY)) == 10
        assert await bench.left() == 0


async def test_draining_ends_at_its_limit_and_what_was_not_answered_stays_due(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.delay = None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(10)
        await bench.wait_until(lambda: len(gateway.sent) == 10)
        started = asyncio.get_running_loop().time()
        await bench.engine.drain(0.3)
        assert asyncio.get_running_loop().time() - started < 2.0
        assert len(await bench.events(Kind.TRANSIENT)) == 10
        assert await bench.left() == 10


async def test_what_was_due_before_the_start_is_sent_after_it(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.delay = None
    async with Bench(tmp_path, gateway, suspend_delivery=True) as bench:
        await bench.accept(20)
    gateway.delay = 0.0
    async with Bench(tmp_path, gateway) as bench:
        await bench.wait_for_events(20, Kind.DELIVERY)
        assert await bench.left() == 0


async def test_a_result_is_not_lost_when_the_spool_cannot_write_for_a_while(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Bench(tmp_path, gateway) as bench:
        settle, failures = bench.spool.settle, iter([SpoolError("disk full")])

        async def sometimes(*arguments: Any) -> None:
            for error in failures:
                raise error
            await settle(*arguments)

        monkeypatch.setattr(bench.spool, "settle", sometimes)
        await bench.accept(10)
        assert len(await bench.wait_for_events(10, Kind.DELIVERY)) == 10
        assert len(gateway.sent) == 10, "known results must not be sent again"
        assert await bench.left() == 0


async def test_a_spool_that_cannot_be_read_is_told_of_once_and_tried_on(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Bench(tmp_path, gateway) as bench:
        pull, failed = bench.spool.pull, 0

        async def damaged(*arguments: Any) -> Any:
            nonlocal failed
            if failed == 3:
                return await pull(*arguments)
            failed += 1
            raise SpoolError("database disk image is malformed")

        monkeypatch.setattr(bench.spool, "pull", damaged)
        for number in range(1, 4):
            await bench.accept(1)
            await bench.wait_until(lambda number=number: failed >= number)  # type: ignore[misc]  # bound to this turn
        assert len(await bench.wait_for_events(3, Kind.DELIVERY)) == 3
        assert caplog.text.count("nothing can be read from the spool") == 1


async def test_a_connection_that_dies_is_replaced_and_its_refused_deliveries_go_again(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.delay = None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(1)
        await bench.wait_until(lambda: len(gateway.sent) == 1)
        gateway.open[0].answer()
        await bench.accept(10)
        await bench.wait_until(lambda: len(gateway.sent) == 11)
        dying = gateway.open[0]
        gateway.delay = 0.0
        dying.leaving = True
        dying.answer(Outcome(disposition=Disposition.REFUSED, code="451", text="GOAWAY"))
        await bench.wait_for_events(11, Kind.DELIVERY)
        assert len(gateway.all) == 2


async def test_resident_deliveries_stay_within_max_resident_active_queue(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    gateway.delay = None
    peak = 0

    def deliver(delivery: Delivery) -> Outcome:
        nonlocal peak
        peak = max(peak, bench.engine.resident)
        return DELIVERED

    gateway.script = deliver
    async with Bench(tmp_path, gateway, max_resident_active_queue=120) as bench:
        await bench.accept(1000)
        async with asyncio.timeout(10):
            while len(await bench.events(Kind.DELIVERY)) < 1000:
                for connection in gateway.open:
                    connection.answer()
                await asyncio.sleep(0.01)
        assert 50 <= peak <= 120


async def test_a_channel_that_fails_in_send_loses_nothing(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever escapes a channel is our bug: told with its traceback, and what was in doubt is tried again."""
    from .scripted import ScriptedConnection

    send, failures = ScriptedConnection.send, iter([True])

    def fail_once(connection: ScriptedConnection, deliveries: Any) -> int:
        if next(failures, False):
            raise ValueError("a bug")
        return send(connection, deliveries)

    monkeypatch.setattr(ScriptedConnection, "send", fail_once)
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(20)
        await bench.wait_for_events(20, Kind.DELIVERY)
        assert {event.text for event in await bench.events(Kind.TRANSIENT)} == {
            "4.3.0 [internal] the channel ended without an outcome"
        }
        assert await bench.left() == 0


async def test_deliveries_that_a_channel_forgets_are_tried_again(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.delay = None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(5)
        await bench.wait_until(lambda: len(gateway.sent) == 5)
        gateway.delay = 0.0
        forgetful = gateway.open[0]
        forgetful.owed.clear()
        forgetful.end("gone")
        await bench.wait_for_events(5, Kind.DELIVERY)
        assert len(await bench.events(Kind.TRANSIENT)) == 5
