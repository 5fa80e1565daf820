"""A domain keeps its pace towards the gateway, and what waits for it was never tried."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from mcmt.config.curfew import Curfew
from mcmt.config.rate import Rate
from mcmt.engine.throttles import BURST
from mcmt.message.event import Kind
from mcmt.message.priority import HIGH
from tests.support.engine_bench import Bench
from tests.support.manual_clock import ManualClock

from .scripted import DELIVERED, ScriptedGateway, transient

DOMAIN = "push.example.com"
OTHER = "other.example.com"
_TASKS = ("settler", "pull", "connect", "expire", "close")


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


async def settle() -> None:
    """Let the engine finish what was set going."""
    await asyncio.sleep(0.002)
    while any(task.get_name().split(" ")[0] in _TASKS for task in asyncio.all_tasks()):
        await asyncio.sleep(0.0005)


async def pass_time(clock: ManualClock, seconds: float, step: float = 0.1) -> None:
    for _ in range(round(seconds / step)):
        clock.advance(step)
        await settle()


def state_of(bench: Bench, domain: str = DOMAIN) -> tuple[object, object]:
    (found,) = [one for one in bench.engine.snapshot() if one["domain"] == domain]
    return found["state"], found["reason"]


async def test_deliveries_are_begun_at_the_rate_and_waiting_is_no_attempt(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    clock = ManualClock()
    async with Bench(tmp_path, gateway, clock=clock, outbound_throttle_messages=Rate(50)) as bench:
        await bench.accept(300)
        await settle()
        for second in range(1, 5):
            await pass_time(clock, 1.0)
            assert 50 * second - 10 <= len(gateway.sent) <= 50 * (second + BURST)
            assert state_of(bench) == ("throttled", "outbound_throttle_messages 50/1")
        await pass_time(clock, 4.0)
        delivered = await bench.events(Kind.DELIVERY)
        assert len(delivered) == 300
        assert {event.attempt for event in delivered} == {0}
        assert not await bench.events(Kind.TRANSIENT)
        assert len(gateway.all) == 1, "a throttle is no reason for another connection"


async def test_a_throttle_of_a_wider_scope_is_one_bucket_for_two_domains(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    clock, rate = ManualClock(), Rate(50)
    shared = {"outbound_throttle_messages": ()}
    async with Bench(
        tmp_path, gateway, clock=clock, outbound_throttle_messages=rate, scopes=shared, others={OTHER: {}}
    ) as bench:
        await bench.accept(200)
        await bench.accept(200, domain=OTHER)
        await settle()
        await pass_time(clock, 4.0)
        parts = [sum(delivery.domain == name for delivery in gateway.sent) for name in (DOMAIN, OTHER)]
        assert 190 <= sum(parts) <= 200 + 50 * BURST
        assert abs(parts[0] - parts[1]) <= 30, "each has its part"
    gateway.sent.clear()
    own = {name: {"scopes": {"outbound_throttle_messages": ("domain", name)}} for name in (DOMAIN, OTHER)}
    async with Bench(tmp_path / "own", gateway, clock=clock, outbound_throttle_messages=rate, others=own) as bench:
        await bench.accept(200)
        await bench.accept(200, domain=OTHER)
        await settle()
        await pass_time(clock, 3.0)
        assert len(gateway.sent) >= 280, "one in a domain's own stanza is its own"


async def test_what_expires_while_it_waits_for_its_turn_fails_and_takes_no_permit(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    clock = ManualClock()
    async with Bench(tmp_path, gateway, clock=clock, outbound_throttle_messages=Rate(10)) as bench:
        await bench.accept(1000, life=5.0)
        await settle()
        await pass_time(clock, 4.8)
        sent = len(gateway.sent)
        assert 35 <= sent <= 52
        await pass_time(clock, 8.0)
        assert len(await bench.events(Kind.PERMANENT)) >= 1000 - sent - 10
        gateway.sent.clear()
        await bench.accept(100)
        await pass_time(clock, 5.0)
        assert len(gateway.sent) >= 40, "the rate is whole for those that live"
        assert len(await bench.events(Kind.PERMANENT)) + len(await bench.events(Kind.DELIVERY)) >= 1040


async def test_a_suspended_domain_leaves_the_shared_rate_to_the_others(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    clock = ManualClock()
    shared = {"outbound_throttle_messages": ()}
    async with Bench(
        tmp_path, gateway, clock=clock, outbound_throttle_messages=Rate(50), scopes=shared, others={OTHER: {}}
    ) as bench:
        await bench.accept(500)
        await bench.accept(500, domain=OTHER)
        await settle()
        bench.engine.suspend(DOMAIN, "maintenance")
        before = len(gateway.sent)
        await pass_time(clock, 4.0)
        sent = gateway.sent[before:]
        assert {delivery.domain for delivery in sent} == {OTHER}
        assert len(sent) >= 190
        assert bench.engine.resident <= 600


async def test_connections_are_opened_at_their_rate(tmp_path: Path, gateway: ScriptedGateway) -> None:
    clock = ManualClock()
    gateway.room = 5
    async with Bench(
        tmp_path,
        gateway,
        clock=clock,
        outbound_throttle_connections=Rate(2, 60.0),
        max_deliveries_per_connection=5,
        max_outbound_connections=1,
    ) as bench:
        await bench.accept(50)
        await settle()
        await pass_time(clock, 20.0, step=0.5)
        assert len(gateway.all) == 1
        assert state_of(bench) == ("throttled", "outbound_throttle_connections 2/60")
        await pass_time(clock, 100.0, step=0.5)
        assert len(gateway.all) == 5, "one at once, and then one every half minute"
        assert not await bench.events(Kind.ROUTE), "the route is not down"


def seconds(text: str) -> float:
    """Since the epoch, of an ISO time with its offset."""
    return datetime.fromisoformat(text).timestamp()


async def test_in_a_curfew_nothing_is_begun_and_what_is_on_the_wire_is_answered(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    clock = ManualClock(seconds("2026-01-10T21:59:30+01:00"))
    gateway.delay = None
    evening = Curfew(22 * 60, 24 * 60, "Europe/Berlin")
    async with Bench(tmp_path, gateway, clock=clock, curfew=(evening,)) as bench:
        await bench.accept(5, life=86400.0)
        await settle()
        assert len(gateway.sent) == 5
        await pass_time(clock, 60.0, step=1.0)
        gateway.open[0].answer()
        await bench.accept(5, life=86400.0)
        await bench.accept(5, life=3600.0)
        await settle()
        assert len(await bench.events(Kind.DELIVERY)) == 5
        assert state_of(bench) == ("curfew", "until 2026-01-11 00:00 Europe/Berlin")
        await pass_time(clock, 3900.0, step=60.0)
        assert len(await bench.events(Kind.PERMANENT)) == 5, "what expires meanwhile has failed"
        assert not gateway.open, "a connection that has nothing to do is closed as ever"
        connects = len(gateway.connects_to)
        await pass_time(clock, 2 * 3600.0 - 3900.0 - 60.0, step=60.0)
        assert len(gateway.connects_to) == connects
        assert len(gateway.sent) == 5
        gateway.delay = 0.0
        await pass_time(clock, 60.0, step=1.0)
        delivered = await bench.events(Kind.DELIVERY)
        assert len(delivered) == 10
        assert {event.attempt for event in delivered} == {0}, "it was no attempt"
        assert not await bench.events(Kind.TRANSIENT)
        assert state_of(bench) == ("up", "")


async def test_a_curfew_that_a_reload_takes_away_has_ended(tmp_path: Path, gateway: ScriptedGateway) -> None:
    clock = ManualClock(seconds("2026-01-10T23:00:00+01:00"))
    night = Curfew(22 * 60, 7 * 60, "Europe/Berlin")
    async with Bench(tmp_path, gateway, clock=clock, curfew=(night,)) as bench:
        await bench.accept(5)
        await settle()
        assert not gateway.sent
        domain = msgspec.structs.replace(bench.settings.domains[DOMAIN], curfew=())
        bench.engine.reload(msgspec.structs.replace(bench.settings, domains={DOMAIN: domain}))
        clock.advance(0.1)
        await bench.wait_for_events(5, Kind.DELIVERY)
        bench.engine.reload(bench.settings)
        await bench.accept(5)
        await pass_time(clock, 3.0, step=1.0)
        assert len(gateway.sent) == 5, "and one that comes has begun"


async def test_what_is_of_high_priority_passes_a_curfew_that_exempts_it(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    clock = ManualClock(seconds("2026-01-11T06:45:00+01:00"))
    night = Curfew(22 * 60, 7 * 60, "Europe/Berlin", exempt="high")
    gateway.script = lambda delivery: transient() if delivery.attempts == 0 else DELIVERED
    async with Bench(tmp_path, gateway, clock=clock, curfew=(night,), retry_interval=30.0) as bench:
        await bench.accept(900, life=86400.0)
        await pass_time(clock, 5.0, step=1.0)
        assert not gateway.connects_to, "for what has to wait no connection is opened"
        await bench.accept(3, priority=HIGH)
        await pass_time(clock, 5.0, step=1.0)
        assert [one.priority for one in gateway.sent] == [HIGH] * 3
        assert state_of(bench) == ("curfew", "until 2026-01-11 07:00 Europe/Berlin, but for high priority")
        await pass_time(clock, 60.0, step=1.0)
        assert len(await bench.events(Kind.DELIVERY)) == 3, "a retry passes as well"
        assert {one.priority for one in gateway.sent} == {HIGH}
        gateway.script = lambda _: DELIVERED
        await pass_time(clock, 900.0, step=60.0)
        await pass_time(clock, 5.0, step=1.0)
        assert len(await bench.events(Kind.DELIVERY)) == 903


async def test_urgent_mail_that_lies_in_the_spool_passes_it_however_much_else_lies_there(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    """What the curfew holds back fills the memory of the queue, and is not in the way of what it lets pass."""
    clock = ManualClock(datetime.fromisoformat("2026-01-10T23:30:00+01:00").timestamp())
    night = Curfew(22 * 60, 7 * 60, "Europe/Berlin", exempt="high")
    async with Bench(tmp_path, gateway, clock=clock, curfew=(night,), max_resident_active_queue=60) as bench:
        bench.engine.suspend(DOMAIN, "maintenance")
        await bench.accept(300)
        await bench.accept(2000, priority=HIGH)
        bench.engine.resume(DOMAIN)
        await settle()
        await pass_time(clock, 5.0)
        assert len(gateway.sent) == 2000
        assert {one.priority for one in gateway.sent} == {HIGH}


async def test_urgent_mail_that_lay_in_the_spool_when_it_began_passes_it(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    clock = ManualClock(datetime.fromisoformat("2026-01-10T21:59:57+01:00").timestamp())
    night = Curfew(22 * 60, 7 * 60, "Europe/Berlin", exempt="high")
    gateway.room, gateway.delay = 1, None
    async with Bench(tmp_path, gateway, clock=clock, curfew=(night,), max_resident_active_queue=60) as bench:
        await bench.accept(300)
        await settle()
        bench.engine.suspend(DOMAIN, "maintenance")
        await bench.accept(300, priority=HIGH)
        bench.engine.resume(DOMAIN)
        await settle()
        await pass_time(clock, 5.0)
        gateway.room, gateway.delay = 1000, 0.0
        gateway.all[0].answer()
        await settle()
        await pass_time(clock, 5.0)
        assert sum(one.priority == HIGH for one in gateway.sent) == 300
