"""Whoever sent what failed is told once, by a mail that goes the way of all mail."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from mcmt.clock import SystemClock
from mcmt.errors import MessageError, SpoolError
from mcmt.message.event import Event, Kind
from mcmt.message.failure import GATHER_SECONDS
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_bench import Bench
from tests.unit.engine.scripted import DELIVERED, ScriptedGateway, transient

GONE = Outcome(disposition=Disposition.RECIPIENT_GONE, code="410", text="Unregistered", remote_id="a-1")
REFUSED = Outcome(disposition=Disposition.PERMANENT, code="550", text="5.1.1 unknown")


class ShiftedClock(SystemClock):
    """The machine's clocks, after so many seconds more."""

    shift = 0.0

    def time(self) -> float:
        return super().time() + self.shift

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


class MailGateway(ScriptedGateway):
    """Takes whole messages, as the channel for mail does."""

    MEDIA_TYPES = frozenset()

    @property
    def bounces(self) -> list[EmailMessage]:
        """What was sent, read."""
        return [email.message_from_bytes(delivery.part.content, policy=email.policy.default) for delivery in self.sent]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at once a second is looked at more often."""
    monkeypatch.setattr("mcmt.engine.engine.TICK", 0.05)


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


@pytest.fixture
def mail() -> MailGateway:
    return MailGateway()


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


def bench_of(folder: Path, gateway: ScriptedGateway, mail: MailGateway, domain: str = "*", **changes: Any) -> Bench:
    others = {domain: {"delivery_method": "mail"}}
    changes = {"generate_bounces": True, **changes}
    return Bench(folder, gateway, channels={"mail": mail}, others=others, **changes)


def recipients(bounce: EmailMessage) -> list[Any]:
    """The blocks of a report's fields, one a recipient."""
    _, status, _ = bounce.iter_parts()
    return list(status.iter_parts())[1:]


async def test_a_dead_token_comes_back_to_the_sender(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: GONE
    async with bench_of(tmp_path, gateway, mail) as bench:
        batch = await bench.accept(header_block=b"Subject: You have mail\r\n")
        (delivered,) = await bench.wait_for_events(1, Kind.DELIVERY)
        (bounce,) = mail.bounces
        (block,) = recipients(bounce)
        assert bounce["to"].addresses[0].addr_spec == "app@example.com"
        assert block["final-recipient"] == "rfc822; user@push.example.com"
        assert (block["status"], block["diagnostic-code"]) == ("5.1.6", "X-test; 410 Unregistered")
        assert (block["x-token"], block["x-remote-id"]) == (f"{1:064x}", "a-1")
        assert block["x-mcmt-delivery-id"] == f"{batch}-1"
        assert "Subject: You have mail" in list(bounce.iter_parts())[2].get_content()
        (sent,) = mail.sent
        assert (sent.sender.reverse_path, sent.recipient, sent.domain) == ("", "app@example.com", "example.com")
        (received,) = await bench.events(Kind.RECEPTION)
        assert (received.id, received.protocol, received.deliveries) == (delivered.id, "internal", 1)
        assert (received.connection_id, received.recipient) == (batch, "app@example.com")
        assert bounce["message-id"] == f"<{received.batch_id}@mx.example.com>"
        assert await bench.left() == 0


async def test_ten_thousand_tokens_of_which_five_hundred_are_dead_make_one_report(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: GONE if delivery.number % 20 == 0 else DELIVERED
    async with bench_of(tmp_path, gateway, mail) as bench:
        await bench.accept(10_000)
        await bench.wait_until(lambda: bool(mail.sent), within=60)
        await bench.wait_for_events(9_501, Kind.DELIVERY)
        (bounce,) = mail.bounces
        assert len(recipients(bounce)) == 100
        assert "500 recipients or devices" in next(bounce.iter_parts()).get_content().replace("\r\n", " ")
        assert len(await bench.events(Kind.PERMANENT)) == 500
        assert await bench.spool.pull_reports(bench.clock.time() + 1e6, 10) == []


async def test_failures_gather_for_five_minutes_while_others_are_pending(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway, clock: ShiftedClock
) -> None:
    def script(delivery: Delivery) -> Outcome:
        if delivery.number <= 3:
            return GONE
        return transient() if delivery.attempts == 0 else GONE

    gateway.script = script
    bench = bench_of(tmp_path, gateway, mail, clock=clock, retry_interval=3600.0, max_retry_interval=3600.0)
    async with bench:
        await bench.accept(5, life=86400.0)
        await bench.wait_for_events(3, Kind.PERMANENT)
        clock.shift = GATHER_SECONDS - 60
        assert await bench.spool.pull_reports(clock.time(), 10) == []
        assert mail.sent == []
        clock.shift = GATHER_SECONDS + 1
        await bench.wait_until(lambda: len(mail.sent) == 1)
        clock.shift = 2 * 3600
        await bench.wait_until(lambda: len(mail.sent) == 2)
        assert [len(recipients(bounce)) for bounce in mail.bounces] == [3, 2]


@pytest.mark.parametrize(
    ("sender", "field", "told"),
    [
        ("app@example.com", "other@example.org", ["other@example.org"]),
        ("", "other@example.org", ["other@example.org"]),
        ("app@example.com", "", []),
        ("", None, []),
    ],
)
async def test_the_parts_return_path_goes_before_the_envelopes(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway, sender: str, field: str | None, told: list[str]
) -> None:
    gateway.script = lambda delivery: GONE
    headers = () if field is None else (("return-path", field),)
    async with bench_of(tmp_path, gateway, mail) as bench:
        await bench.accept(headers=headers, sender=sender)
        await bench.wait_for_events(1, Kind.PERMANENT)
        owed = await bench.spool.pull_reports(bench.clock.time() + 1e6, 10)
        if told:
            await bench.wait_until(lambda: bool(mail.sent))
        else:
            assert owed == []
        assert [sent.recipient for sent in mail.sent] == told


async def test_a_domain_may_make_no_bounces(tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway) -> None:
    gateway.script = lambda delivery: GONE
    async with bench_of(tmp_path, gateway, mail, generate_bounces=False) as bench:
        await bench.accept()
        await bench.wait_for_events(1, Kind.PERMANENT)
        assert await bench.spool.pull_reports(bench.clock.time() + 1e6, 10) == []


async def test_retries_used_up_and_the_end_of_life_are_told_with_the_answer_before(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: transient("first" if delivery.attempts == 0 else "second")
    async with bench_of(tmp_path / "retries", gateway, mail, max_retries=1) as bench:
        await bench.accept()
        await bench.wait_until(lambda: len(mail.sent) == 1)
    async with bench_of(tmp_path / "life", gateway, mail, retry_interval=60.0, max_retry_interval=60.0) as bench:
        await bench.accept(life=1.0)
        await bench.wait_until(lambda: len(mail.sent) == 2)
    retries, life = [recipients(bounce)[0] for bounce in mail.bounces]
    assert retries["diagnostic-code"] == "X-MCMT; 554 5.4.7 [internal] exceeded max retries without delivery"
    assert retries["x-mcmt-last-answer"] == "500 second"
    assert life["diagnostic-code"] == "X-MCMT; 554 5.4.7 [internal] exceeded max time without delivery"
    assert life["x-mcmt-last-answer"] == "500 first"


async def one_line(bench: Bench) -> Event:
    """The only P line that is not the push's own, when what was owed is gone."""
    (line,) = [one for one in await bench.wait_for_events(2, Kind.PERMANENT) if one.code != "410"]
    assert await bench.spool.pull_reports(bench.clock.time() + 1e6, 10) == []
    assert await bench.left() == 0
    return line


async def test_a_bounce_without_a_route_ends_in_one_line(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: GONE
    async with bench_of(tmp_path, gateway, mail, domain="elsewhere.example") as bench:
        batch = await bench.accept()
        line = await one_line(bench)
    assert (line.protocol, line.channel, line.recipient) == ("internal", "", "app@example.com")
    assert line.connection_id == batch
    assert line.text == (
        '5.4.4 [internal] bounce undeliverable: no stanza routes example.com; one named "*" would '
        f"(failures of {batch}: 1)"
    )


async def test_a_bounce_to_a_domain_of_pushes_ends_in_one_line(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: GONE
    async with bench_of(tmp_path, gateway, mail) as bench:
        await bench.accept(sender="app@push.example.com")
        line = await one_line(bench)
    assert "push.example.com is routed to the channel test, which carries no mail" in line.text


@pytest.mark.parametrize(
    ("error", "text"),
    [(MessageError(554, "5.6.0", "not that one"), "not that one"), (RuntimeError("a bug"), "internal error: Runtime")],
)
async def test_a_bounce_that_its_channel_does_not_take_ends_in_one_line(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway, error: Exception, text: str
) -> None:
    def read(*arguments: Any) -> Any:
        raise error

    gateway.script = lambda delivery: GONE
    mail.read = read  # type: ignore[assignment]  # a channel that has a bug
    async with bench_of(tmp_path, gateway, mail) as bench:
        await bench.accept()
        assert text in (await one_line(bench)).text


async def test_a_bounce_that_fails_is_not_bounced(tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway) -> None:
    gateway.script = lambda delivery: GONE
    mail.script = lambda delivery: REFUSED
    async with bench_of(tmp_path, gateway, mail) as bench:
        await bench.accept()
        line = await one_line(bench)
    assert (line.code, line.text, line.recipient) == ("550", "5.1.1 unknown", "app@example.com")
    assert len(mail.sent) == 1


async def test_bounces_wait_while_the_spool_takes_nothing(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.script = lambda delivery: GONE
    async with bench_of(tmp_path, gateway, mail) as bench:
        with monkeypatch.context() as broken:
            tried = []

            async def refuse(*arguments: Any) -> None:
                tried.append(arguments)
                raise SpoolError("no room")

            broken.setattr(bench.spool, "report", refuse)
            await bench.accept()
            await bench.wait_until(lambda: len(tried) == 2)
        await bench.wait_until(lambda: len(mail.sent) == 1)


async def test_many_reports_are_made_a_page_at_a_time(
    tmp_path: Path, gateway: ScriptedGateway, mail: MailGateway
) -> None:
    gateway.script = lambda delivery: GONE
    async with bench_of(tmp_path, gateway, mail) as bench:
        for _ in range(350):
            await bench.accept()
        await bench.wait_until(lambda: len(mail.sent) == 350, within=30)
        delivered = await bench.wait_for_events(350, Kind.DELIVERY)
        assert len({one.id for one in mail.sent}) == len(delivered) == 350
