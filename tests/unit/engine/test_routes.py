"""Several routes of a domain, and a route that is suspended: which is used, and how it is asked again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcmt.message.event import Kind
from mcmt.message.model import Delivery
from mcmt.message.route import Route
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_bench import Bench

from .scripted import DELIVERED, ScriptedConnection, ScriptedGateway, transient

FAULT = Outcome(disposition=Disposition.ROUTE_FAULT, code="403", text="BadCertificate")
AMBIGUOUS = Outcome(disposition=Disposition.AMBIGUOUS, code="451", text="no answer")
BAD_TOKEN = Outcome(disposition=Disposition.RECIPIENT_GONE, code="400", text="BadDeviceToken", suspect=True)


class TwoGateways(ScriptedGateway):
    """Which gateway a connection is to decides what it answers."""

    def __init__(self, answers: dict[str, Outcome]) -> None:
        super().__init__()
        self.delay = None
        self.answers = answers
        self.served: dict[str, int] = dict.fromkeys(answers, 0)

    async def connect(self, route: Route, *arguments: Any) -> ScriptedConnection:
        connection = await super().connect(route, *arguments)
        send = connection.send

        def send_and_answer(deliveries: list[Delivery]) -> int:
            taken = send(deliveries)
            self.served[route.host] += taken
            asyncio.get_running_loop().call_later(0.01, connection.answer, self.answers[route.host])
            return taken

        connection.send = send_and_answer  # type: ignore[method-assign,assignment]
        return connection


@pytest.mark.parametrize("connections", [1, 5])
async def test_a_route_at_fault_is_left_for_the_next_one_though_its_connections_are_open(
    tmp_path: Path, connections: int
) -> None:
    gateway = TwoGateways({"one": FAULT, "two": DELIVERED})
    routes = ("test://one", "test://two")
    async with Bench(
        tmp_path, gateway, routes=routes, max_retry_interval=60.0, max_outbound_connections=connections
    ) as bench:
        await bench.accept(2000)
        await bench.wait_for_events(2000, Kind.DELIVERY)
        assert gateway.served["two"] == 2000
        assert gateway.peak <= connections


async def test_a_single_route_at_fault_keeps_its_connection_for_the_probe(tmp_path: Path) -> None:
    gateway = TwoGateways({"one": FAULT})
    async with Bench(tmp_path, gateway, routes=("test://one",), max_retry_interval=0.2) as bench:
        await bench.accept(10)
        await bench.wait_until(lambda: gateway.served["one"] >= 13)
        assert len(gateway.connects_to) == 1


async def test_a_connection_that_takes_nothing_more_does_not_keep_another_from_being_opened(tmp_path: Path) -> None:
    """Nothing was answered on it yet, and what it owes is not answered for as long as it lives."""
    gateway = ScriptedGateway()
    gateway.delay = None
    async with Bench(tmp_path, gateway) as bench:
        await bench.accept(10)
        await bench.wait_until(lambda: len(gateway.sent) == 10)
        (leaving,) = gateway.open
        leaving.leave()
        gateway.delay = 0.0
        await bench.accept(10)
        await bench.wait_for_events(10, Kind.DELIVERY)
        assert not leaving.ended
        leaving.answer(DELIVERED)
        await bench.wait_for_events(20, Kind.DELIVERY)


@pytest.mark.parametrize("answer", [AMBIGUOUS, transient()], ids=["nothing", "not now"])
async def test_a_probe_that_proves_nothing_is_followed_by_a_wait_and_not_by_the_next_delivery(
    tmp_path: Path, answer: Outcome
) -> None:
    """Twenty dead tokens trip the mismatch guard; then the gateway has other troubles."""
    gateway = ScriptedGateway()
    gateway.script = lambda delivery: BAD_TOKEN
    async with Bench(tmp_path, gateway, retry_interval=60.0, max_retry_interval=0.5) as bench:
        await bench.accept(300)
        await bench.wait_for_events(1, Kind.ROUTE)
        before = len(gateway.sent)
        gateway.script = lambda delivery: answer
        await asyncio.sleep(1.8)
        assert 1 <= len(gateway.sent) - before <= 4, "one probe every max_retry_interval"


async def test_a_probe_of_a_route_at_fault_that_is_not_answered_is_followed_by_a_wait(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    gateway.script = lambda delivery: FAULT
    async with Bench(tmp_path, gateway, retry_interval=60.0, max_retry_interval=0.5) as bench:
        await bench.accept(100)
        await bench.wait_for_events(1, Kind.ROUTE)
        before = len(gateway.sent)
        gateway.script = lambda delivery: AMBIGUOUS
        await asyncio.sleep(1.8)
        assert 1 <= len(gateway.sent) - before <= 4, "one probe every max_retry_interval"
