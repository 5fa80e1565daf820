"""A sender is told what it asked to hear of: successes, delays, or nothing; under its own names, and once."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcmt.config.settings import DomainSettings
from mcmt.engine.verdict import lateness
from mcmt.errors import SpoolError
from mcmt.message.event import Kind
from mcmt.message.model import Delivery, Envelope, Message, NewDelivery, Part
from mcmt.message.notification import DELAY, FAILURE, NEVER, SUCCESS, Asked
from mcmt.message.status import Outcome
from mcmt.spool.port import Settlement
from mcmt.spool.sqlite import SqliteSpool
from tests.support.engine_bench import Bench
from tests.unit.engine.scripted import DELIVERED, ScriptedGateway, transient
from tests.unit.engine.test_bouncer import (
    GONE,
    MailGateway,
    ShiftedClock,
    bench_of,
    clock,
    gateway,
    mail,
    quick,
    recipients,
)

__all__ = ["clock", "gateway", "mail", "quick"]

DOMAIN = "push.example.com"
BATCH = "01a2047eff9c7d13a1d81519"
WHOLE = b"Subject: hello\r\n\r\n--not a boundary\r\nbody\r\n"


def original(now: float, sender: str = "app@example.com", **fields: Any) -> Message:
    """A message whose envelope has *fields*."""
    return Message(
        batch_id=BATCH,
        received=now,
        envelope=Envelope(sender, (f"user@{DOMAIN}",), **fields),
        header_block=WHOLE if fields.get("ret") == "FULL" else WHOLE[:16],
        context={},
        parts=(Part("message/vnd.test", (), b"{}"),),
        size=2,
    )


async def accept(
    bench: Bench, *asked: Asked | None, warn: float = 0.0, sender: str = "app@example.com", **fields: Any
) -> None:
    """A message with a delivery for each of *asked*; *warn*: seconds from now."""
    now = bench.clock.time()
    made = [
        NewDelivery(number, DOMAIN, f"user{number}@{DOMAIN}", f"{number:064x}", 0, now + 86400, asked=one)
        for number, one in enumerate(asked, 1)
    ]
    if warn:
        made = [msgspec.structs.replace(one, warn=now + warn) for one in made]
    await bench.spool.accept(original(now, sender, **fields), made, [])


def told(bounce: EmailMessage) -> list[tuple[str, str]]:
    """Whom a report tells of, and what."""
    return [(block["final-recipient"].split("; ")[1], block["action"]) for block in recipients(bounce)]


def about(bounce: EmailMessage) -> Any:
    """The block of fields of the message."""
    return next(iter(list(bounce.iter_parts())[1].iter_parts()))


async def test_one_report_tells_failures_first_and_then_what_was_handed_on(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: GONE if delivery.number in (2, 5) else DELIVERED
    every = SUCCESS | FAILURE
    async with bench_of(tmp_path, gateway, mail) as bench:
        await accept(
            bench,
            Asked(SUCCESS, "rfc822;One@Example.com"),
            Asked(every, "rfc822;Two@Example.com"),
            Asked(FAILURE),
            None,
            Asked(NEVER),
            Asked(every),
            envid="QQ 1",
            ret="HDRS",
            release="for;600",
            deliver_by=1_800_000_000.0,
        )
        await bench.wait_until(lambda: bool(mail.sent))
        (bounce,) = mail.bounces
        assert told(bounce) == [
            (f"user2@{DOMAIN}", "failed"),
            (f"user1@{DOMAIN}", "relayed"),
            (f"user6@{DOMAIN}", "relayed"),
        ]
        failed, relayed, _ = recipients(bounce)
        assert failed["original-recipient"] == "rfc822;Two@Example.com"
        assert (relayed["original-recipient"], relayed["status"]) == ("rfc822;One@Example.com", "2.0.0")
        assert about(bounce)["original-envelope-id"] == "QQ 1"
        # RFC 4865 5.1.2, RFC 2852 5
        assert about(bounce)["future-release-request"] == "for;600"
        assert about(bounce)["deliver-by-date"] == "Fri, 15 Jan 2027 08:00:00 +0000"
        assert (about(bounce)["x-mcmt-failures"], about(bounce)["x-mcmt-reported"]) == ("1", "3")
        assert bounce["subject"] == "Undelivered: 1 failure; relayed: 2 recipients"
        assert list(bounce.iter_parts())[2].get_content_type() == "text/rfc822-headers"
        await bench.wait_for_events(5, Kind.DELIVERY)
        assert await bench.left() == 0
        assert await bench.spool.pull_reports(bench.clock.time() + 1e6, 10) == []


async def test_successes_alone_are_no_failure(tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway) -> None:
    gateway.script = lambda delivery: DELIVERED
    async with bench_of(tmp_path, gateway, mail) as bench:
        await accept(bench, Asked(SUCCESS), Asked(SUCCESS), ret="FULL")
        await bench.wait_until(lambda: bool(mail.sent))
        (bounce,) = mail.bounces
        assert bounce["subject"] == "Relayed: 2 recipients"
        text = next(bounce.iter_parts()).get_content()
        assert "What to do" not in text
        assert "not delivered" not in text
        # RFC 3461 4.3: FULL speaks of failures.
        assert list(bounce.iter_parts())[2].get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    ("asked", "sender"), [(Asked(NEVER), "app@example.com"), (Asked(DELAY), "app@example.com"), (Asked(15), "")]
)
async def test_who_does_not_want_to_hear_of_a_failure_does_not(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway, asked: Asked, sender: str
) -> None:
    gateway.script = lambda delivery: GONE
    async with bench_of(tmp_path, gateway, mail) as bench:
        await accept(bench, asked, sender=sender, warn=0.001)
        await bench.wait_for_events(1, Kind.PERMANENT)
        assert await bench.spool.pull_reports(bench.clock.time() + 1e6, 10) == []
        assert mail.sent == []


async def test_who_took_it_may_tell_of_success_itself(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: msgspec.structs.replace(DELIVERED, reports=True)
    async with bench_of(tmp_path, gateway, mail) as bench:
        await accept(bench, Asked(SUCCESS))
        await bench.wait_for_events(1, Kind.DELIVERY)
        assert await bench.spool.pull_reports(bench.clock.time() + 1e6, 10) == []


async def test_full_returns_the_whole_message(tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway) -> None:
    gateway.script = lambda delivery: GONE
    async with bench_of(tmp_path, gateway, mail) as bench:
        await accept(bench, None, ret="FULL")
        await bench.wait_until(lambda: bool(mail.sent))
        (bounce,) = mail.bounces
        returned = list(bounce.iter_parts())[2]
        assert returned.get_content_type() == "message/rfc822"
        (within,) = returned.iter_parts()
        assert within["subject"] == "hello"
        assert within.get_content().replace("\r\n", "\n") == "--not a boundary\nbody\n"


async def test_a_delay_is_told_once_and_what_comes_of_it_as_well(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway, clock: ShiftedClock
) -> None:
    answers = [transient("ServiceUnavailable")]

    def script(delivery: Delivery) -> Outcome:
        return answers[0] if delivery.number == 1 else DELIVERED

    gateway.script = script
    async with bench_of(tmp_path, gateway, mail, clock=clock, retry_interval=20, max_retry_interval=20) as bench:
        await accept(bench, Asked(DELAY | SUCCESS), Asked(DELAY), warn=3600, envid="late")
        await bench.wait_for_events(1, Kind.TRANSIENT)
        clock.shift = 3590
        assert await bench.spool.pull_late(clock.time(), 10) == {}
        # What has arrived is not kept in mind until then.
        await bench.wait_for_events(1, Kind.DELIVERY)
        assert len(await bench.spool.pull_late(clock.time() + 60, 10)) == 1
        clock.shift = 3620
        await bench.wait_until(lambda: bool(mail.sent))
        (bounce,) = mail.bounces
        # The second one has arrived; it did not want to hear of that.
        assert told(bounce) == [(f"user1@{DOMAIN}", "delayed")]
        (block,) = recipients(bounce)
        assert block["status"] == "4.4.7"
        assert block["will-retry-until"]
        assert "ServiceUnavailable" in block["x-mcmt-last-answer"]
        assert bounce["subject"] == "Delayed: 1 recipient"
        assert await bench.spool.pull_late(clock.time() + 1e6, 10) == {}
        answers[0] = DELIVERED
        clock.shift = 4000
        await bench.wait_until(lambda: len(mail.sent) == 2)
        assert told(mail.bounces[1]) == [(f"user1@{DOMAIN}", "relayed")]


async def test_a_domain_whose_bounces_are_off_reports_nothing(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: DELIVERED
    async with bench_of(tmp_path, gateway, mail, generate_bounces=False) as bench:
        await accept(bench, Asked(SUCCESS))
        await bench.wait_for_events(1, Kind.DELIVERY)
        assert await bench.spool.pull_reports(bench.clock.time() + 1e6, 10) == []


async def test_a_warning_and_the_end_of_being_late_are_one_transaction(tmp_path: Path) -> None:
    """Whatever of it a crash leaves: both, or neither; and a second warning finds nothing to tell of."""
    spool = await SqliteSpool.open(tmp_path / "spool")
    now = 1_800_000_000.0
    asked = Asked(DELAY)
    late = NewDelivery(1, DOMAIN, f"user@{DOMAIN}", "aa", 0, now + 1e5, asked=asked, warn=now + 10)
    await spool.accept(original(now), [late], [])
    assert await spool.pull_late(now + 9, 10) == {}
    await spool.close()
    spool = await SqliteSpool.open(tmp_path / "spool")
    ((row, found),) = (await spool.pull_late(now + 10, 10)).items()
    assert found is not None
    assert (found.asked, found.token, found.part.media_type) == (asked, "aa", "message/vnd.test")
    settings = DomainSettings(name=DOMAIN, delivery_method="test", routes=(), options=None)
    failure = lateness(found, settings, now + 10)
    await spool.warn({row: failure})
    await spool.warn({row: failure})
    (owed,) = await spool.pull_reports(now + 1e6, 10)
    assert (owed.count, owed.others, owed.failures[0].action) == (1, 1, "delayed")
    assert await spool.pull_late(now + 1e6, 10) == {}
    await spool.close()


async def test_what_has_ended_is_not_late_and_its_row_is_not_given_again(tmp_path: Path) -> None:
    spool = await SqliteSpool.open(tmp_path / "spool")
    now = 1_800_000_000.0
    late = NewDelivery(1, DOMAIN, f"user@{DOMAIN}", "aa", 0, now + 1e5, asked=Asked(DELAY), warn=now + 10)
    await spool.accept(original(now), [late], [])
    (first,) = (await spool.pull(DOMAIN, now, 10, 1 << 30)).deliveries
    await spool.settle([Settlement(first.row)], [])
    await spool.close()
    # Nothing of the message is left but its place in line.
    spool = await SqliteSpool.open(tmp_path / "spool")
    another = msgspec.structs.replace(original(now), batch_id="01a2047eff9c7d13a1d81520")
    await spool.accept(another, [msgspec.structs.replace(late, asked=None, warn=0.0)], [])
    (second,) = (await spool.pull(DOMAIN, now, 10, 1 << 30)).deliveries
    assert second.row > first.row
    late_rows = await spool.pull_late(now + 10, 10)
    assert late_rows == {first.row: None}
    await spool.warn(dict.fromkeys(late_rows))
    assert await spool.pull_late(now + 10, 10) == {}
    assert await spool.pull_reports(now + 1e6, 10) == []
    with pytest.raises(SpoolError):
        await spool.settle([Settlement(first.row)], [])
    await spool.close()
