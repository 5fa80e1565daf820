"""What an accepted message becomes: parts, deliveries, events, numbers, ends of life; and every refusal."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

import channels.apn as apn_channel
from channels import discard
from mcmt.config.settings import DomainSettings, Settings
from mcmt.errors import MessageError
from mcmt.intake.compose import NOW as AT_ONCE
from mcmt.intake.compose import Composed, McmtReception, Schedule, compose, open_message
from mcmt.message.event import Event, Kind
from mcmt.message.mime import context_variables
from mcmt.message.model import Envelope
from mcmt.message.priority import BULK, HIGH, NORMAL
from tests.unit.intake.server import MCMT, make_channels, make_settings

BATCH = "018f00000000700080000000"
NOW = 1_000_000.0
PLAIN = b"Subject: hello\r\n\r\ntext\r\n"
MAIL_PART = b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nmail\r\n"


def mcmt(*parts: bytes, head: bytes = b"") -> bytes:
    body = b"".join(b"--B\r\n" + part + b"\r\n" for part in parts)
    return head + b"Content-Type: multipart/vnd.msys.mcmt; boundary=B\r\n\r\n" + body + b"--B--\r\n"


def apn(*tokens: str, content: str = "{}", ends: str = "") -> bytes:
    fields = "".join(f"X-Device-Token: {token}\r\n" for token in tokens) + (f"Ends: {ends}\r\n" if ends else "")
    return f"Content-Type: message/vnd.msys.apn\r\n\r\n{fields}\r\n{content}".encode()


def make(
    data: bytes,
    *recipients: str,
    reception: McmtReception = "allow",
    settings: Settings | None = None,
    sender: str = "app@example.com",
    schedule: Schedule = AT_ONCE,
) -> Composed:
    parsed = open_message(data, reception)
    envelope = Envelope(sender, recipients, "192.0.2.7", "c0ffee")
    return compose(
        settings or make_settings(),
        make_channels(),
        envelope,
        data,
        parsed,
        context_variables(parsed.headers),
        reception,
        BATCH,
        NOW,
        schedule=schedule,
    )


def refusal(data: bytes, *recipients: str, **arguments: Any) -> str:
    with pytest.raises(MessageError) as raised:
        make(data, *recipients, **arguments)
    return str(raised.value)


def kinds(events: Any) -> list[tuple[Kind, str, str, int]]:
    return [(event.kind, event.recipient, event.id, event.deliveries) for event in events]


def test_one_token_is_one_delivery_and_one_reception() -> None:
    data = mcmt(apn("aa"), head=b"X-MCMT-Context: DLV_Source_Addr=shop\r\n")
    message, deliveries, events, _ = make(data, "User@APN.example.com")
    assert [msgspec.structs.astuple(delivery) for delivery in deliveries] == [
        (1, "apn.example.com", "User@APN.example.com", "aa", 0, NOW + 86400.0, 0.0, 0, b"", None, 0.0)
    ]
    assert message.header_block == data.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert message.context == {"DLV_Source_Addr": "shop"}
    assert events == [
        Event(
            kind=Kind.RECEPTION,
            time=NOW,
            id=f"{BATCH}-1",
            batch_id=BATCH,
            channel="apn",
            domain="apn.example.com",
            sender="app@example.com",
            recipient="User@APN.example.com",
            size=len(data),
            remote_address="192.0.2.7",
            deliveries=1,
            connection_id="c0ffee",
            protocol="esmtp",
            context={"DLV_Source_Addr": "shop"},
        )
    ]


def test_one_recipient_may_have_many_tokens_and_equal_ones_are_one_delivery() -> None:
    message, deliveries, events, _ = make(mcmt(apn("aa,bb", "cc", "aa")), "u@apn.example.com")
    assert [(delivery.number, delivery.token) for delivery in deliveries] == [(1, "aa"), (2, "bb"), (3, "cc")]
    assert len(message.parts) == 1
    assert kinds(events) == [(Kind.RECEPTION, "u@apn.example.com", f"{BATCH}-1", 3)]


def test_many_recipients_may_share_one_token_each_with_a_number_of_its_own() -> None:
    _, deliveries, events, _ = make(mcmt(apn("aa")), "u@apn.example.com", "v@other.example.com", "u@apn.example.com")
    assert [(delivery.number, delivery.recipient) for delivery in deliveries] == [
        (1, "u@apn.example.com"),
        (2, "v@other.example.com"),
    ]
    assert [event[2] for event in kinds(events)] == [f"{BATCH}-1", f"{BATCH}-2"]


def test_many_recipients_of_one_channel_with_many_tokens_are_refused() -> None:
    text = refusal(mcmt(apn("aa", "bb")), "u@apn.example.com", "v@other.example.com")
    assert text.startswith("554 5.6.0 several recipients and 2 tokens")


def test_recipients_of_other_channels_do_not_count_against_many_tokens() -> None:
    _, deliveries, _, _ = make(mcmt(apn("aa", "bb")), "u@apn.example.com", "v@sink.example.com", "w@sink.example.com")
    assert [delivery.token for delivery in deliveries] == ["aa", "bb", "v@sink.example.com", "w@sink.example.com"]


def test_several_parts_have_their_own_tokens() -> None:
    message, deliveries, _, _ = make(mcmt(apn("aa", "bb"), apn("aa", content='{"b":1}')), "u@apn.example.com")
    assert [(delivery.token, delivery.part) for delivery in deliveries] == [("aa", 0), ("bb", 0), ("aa", 1)]
    assert [part.content for part in message.parts] == [b"{}", b'{"b":1}']


def test_equal_parts_are_stored_once_and_their_equal_tokens_are_one_delivery() -> None:
    message, deliveries, _, _ = make(mcmt(apn("aa"), apn("aa")), "u@apn.example.com")
    assert (len(message.parts), len(deliveries)) == (1, 1)


def test_a_channel_without_media_types_gets_the_mail_of_an_mcmt_message() -> None:
    message, deliveries, _, _ = make(mcmt(apn("aa"), MAIL_PART), "u@sink.example.com")
    assert [part.content for part in message.parts] == [b"Subject: inner\r\n\r\nmail\r\n"]
    assert [delivery.token for delivery in deliveries] == ["u@sink.example.com"]


@pytest.mark.parametrize("data", [PLAIN, mcmt(apn("aa"))])
def test_a_channel_without_media_types_gets_the_whole_message_where_there_is_no_mail_in_it(data: bytes) -> None:
    message, _, _, _ = make(data, "u@sink.example.com")
    assert [(part.media_type, part.content) for part in message.parts] == [("message/rfc822", data)]


@pytest.mark.parametrize("data", [mcmt(apn("aa"), MAIL_PART), mcmt(b"broken \xff part"), PLAIN])
def test_passthru_takes_nothing_apart(data: bytes) -> None:
    """Not even to find it broken."""
    message, _, _, _ = make(data, "u@sink.example.com", reception="passthru")
    assert [part.content for part in message.parts] == [data]


def test_passthru_refuses_what_only_a_part_could_reach_and_names_the_option() -> None:
    text = refusal(MCMT, "u@apn.example.com", reception="passthru")
    assert text.startswith("554 5.6.1 apn.example.com needs a part of the MCMT message")
    assert "mcmt_reception: passthru" in text


@pytest.mark.parametrize("data", [MCMT, MCMT.replace(b"multipart/vnd.msys.mcmt", b"Multipart/VND.msys.MCMT")])
def test_reject_refuses_mcmt_messages_and_no_others(data: bytes) -> None:
    assert refusal(data, "u@sink.example.com", reception="reject").startswith("550 5.7.1 ")
    assert make(PLAIN, "u@sink.example.com", reception="reject").deliveries


@pytest.mark.parametrize("data", [PLAIN, mcmt(MAIL_PART)])
def test_a_message_without_a_part_for_anybody_is_refused_naming_the_type(data: bytes) -> None:
    text = refusal(data, "u@apn.example.com", "v@other.example.com")
    assert text == "554 5.6.1 the message has no message/vnd.msys.apn part, which apn.example.com needs"


def test_recipients_for_whom_there_is_no_part_fail_in_the_same_transaction() -> None:
    _, deliveries, events, failures = make(PLAIN, "u@apn.example.com", "v@sink.example.com", "w@other.example.com")
    assert [(delivery.number, delivery.recipient) for delivery in deliveries] == [(2, "v@sink.example.com")]
    assert kinds(events) == [
        (Kind.RECEPTION, "u@apn.example.com", f"{BATCH}-1", 1),
        (Kind.PERMANENT, "u@apn.example.com", f"{BATCH}-1", 0),
        (Kind.RECEPTION, "v@sink.example.com", f"{BATCH}-2", 1),
        (Kind.RECEPTION, "w@other.example.com", f"{BATCH}-3", 1),
        (Kind.PERMANENT, "w@other.example.com", f"{BATCH}-3", 0),
    ]
    failure = events[1]
    assert (failure.code, failure.text) == ("554", "5.6.1 [internal] the message has no part for this channel")
    assert (failure.channel, failure.domain) == ("apn", "apn.example.com")
    assert [(owed.number, owed.recipient, owed.status, owed.time) for owed in failures] == [
        (1, "u@apn.example.com", "5.6.1", NOW),
        (3, "w@other.example.com", "5.6.1", NOW),
    ]
    assert {owed.return_path for owed in failures} == {"app@example.com"}


def test_nobody_is_owed_a_bounce_by_the_null_sender_or_where_the_domain_makes_none() -> None:
    recipients = "u@apn.example.com", "v@sink.example.com"
    *_, events, failures = make(PLAIN, *recipients, sender="")
    assert Kind.PERMANENT in {event.kind for event in events}
    assert failures == []
    settings = make_settings()
    silent = msgspec.structs.replace(settings.domains["apn.example.com"], generate_bounces=False)
    settings = msgspec.structs.replace(settings, domains={**settings.domains, "apn.example.com": silent})
    *_, failures = make(PLAIN, *recipients, settings=settings)
    assert failures == []


@pytest.mark.parametrize(
    ("ends", "expires"),
    [
        ("", NOW + 86400),
        ("0", NOW + 60),
        (str(NOW + 5), NOW + 5),
        (str(NOW + 1e6), NOW + 86400),
        # Already past: accepted, and the engine fails it as expired.
        (str(NOW - 5), NOW - 5),
    ],
)
def test_a_delivery_ends_at_the_earlier_of_the_domains_and_its_own_end(ends: str, expires: float) -> None:
    _, deliveries, _, _ = make(mcmt(apn("aa", ends=ends)), "u@apn.example.com")
    assert deliveries[0].expires == expires


def test_the_domains_lifetime_is_its_own() -> None:
    _, deliveries, _, _ = make(mcmt(apn("aa")), "u@apn.example.com", "v@other.example.com")
    assert [delivery.expires for delivery in deliveries] == [NOW + 86400, NOW + 10]
    _, deliveries, _, _ = make(mcmt(apn("aa", ends="0")), "v@other.example.com")
    assert deliveries[0].expires == NOW + 10


def test_more_deliveries_than_allowed_are_refused_with_their_count_and_the_option() -> None:
    settings = msgspec.structs.replace(make_settings(), max_deliveries_per_message=3)
    tokens = ["aa", "bb", "cc", "aa"]
    assert len(make(mcmt(apn(*tokens)), "u@apn.example.com", settings=settings).deliveries) == 3
    text = refusal(mcmt(apn(*tokens, "dd")), "u@apn.example.com", settings=settings)
    assert text.startswith("554 5.5.3 the message asks for 4 deliveries, 3 are allowed (max_deliveries_per_message)")


def test_the_refusal_of_a_channel_is_the_refusal_of_the_message() -> None:
    assert refusal(mcmt(apn("aa", content="broken")), "u@apn.example.com", "v@sink.example.com").startswith("554 5.6.0")


def test_a_recipient_without_a_stanza_is_refused_and_the_star_takes_every_other_domain() -> None:
    assert refusal(PLAIN, "u@nowhere.example").startswith("550 5.1.2 no route to nowhere.example")
    star = DomainSettings(name="*", delivery_method="discard", routes=(), options=discard.Options())
    settings = msgspec.structs.replace(make_settings(), domains={"*": star})
    assert [delivery.domain for delivery in make(PLAIN, "u@nowhere.example", settings=settings).deliveries] == [
        "nowhere.example"
    ]


def test_the_life_of_a_scheduled_delivery_begins_when_it_is_due() -> None:
    given = mcmt(apn("aa"), apn("bb", ends="0"))
    (first, now_or_never) = make(given, "a@apn.example.com", schedule=Schedule(NOW + 100)).deliveries
    assert (first.due, first.expires) == (NOW + 100, NOW + 100 + 86400)
    assert (now_or_never.due, now_or_never.expires) == (NOW + 100, NOW + 160)


def test_a_message_that_says_when_it_ends_lives_no_longer() -> None:
    (one,) = make(mcmt(apn("aa")), "a@apn.example.com", schedule=Schedule(expires=NOW + 5)).deliveries
    assert one.expires == NOW + 5


def priorities(
    head: bytes = b"", asked_for: int | None = None, stanza: Literal["high", "normal", "bulk"] = "normal"
) -> set[int]:
    settings = make_settings()
    domain = msgspec.structs.replace(settings.domains["apn.example.com"], priority=stanza)
    settings = msgspec.structs.replace(settings, domains={**settings.domains, domain.name: domain})
    data = mcmt(apn("aa", "bb"), head=head)
    parsed = open_message(data, "allow")
    envelope = Envelope("app@example.com", ("user@apn.example.com",), priority=asked_for)
    composed = compose(settings, make_channels(), envelope, data, parsed, {}, "allow", BATCH, NOW)
    return {delivery.priority for delivery in composed.deliveries}


def test_a_message_is_as_urgent_as_its_domain_unless_its_sender_says_otherwise() -> None:
    assert priorities() == {NORMAL}
    assert priorities(stanza="bulk") == {BULK}
    assert priorities(b"MT-Priority: 3\r\n", stanza="bulk") == {HIGH}
    assert priorities(b"MT-Priority: 0\r\n", stanza="high") == {NORMAL}
    assert priorities(b"MT-Priority: soon\r\n", stanza="high") == {HIGH}


def test_what_the_envelope_asks_for_stands_above_the_header_field() -> None:
    assert priorities(b"MT-Priority: -4\r\n", HIGH) == {HIGH}
    assert priorities(b"MT-Priority: 4\r\n", NORMAL, "bulk") == {NORMAL}


def collapses(head: str, tokens: tuple[str, ...] = ("aa", "bb"), replace: bool = True) -> list[bytes]:
    settings = make_settings()
    channels: dict[str, Any] = {**make_channels(), "apn": apn_channel}
    domain = msgspec.structs.replace(settings.domains["apn.example.com"], replace_queued=replace)
    settings = msgspec.structs.replace(settings, domains={**settings.domains, domain.name: domain})
    fields = "".join(f"X-Device-Token: {token}\r\n" for token in tokens)
    part = f'Content-Type: message/vnd.msys.apn\r\n\r\n{fields}{head}\r\n{{"aps":{{"alert":"x"}}}}'.encode()
    data = mcmt(part)
    parsed = open_message(data, "allow")
    envelope = Envelope("app@example.com", ("user@apn.example.com",))
    composed = compose(settings, channels, envelope, data, parsed, {}, "allow", BATCH, NOW)
    return [delivery.collapse for delivery in composed.deliveries]


def test_with_replace_queued_token_and_collapse_id_say_what_a_delivery_replaces() -> None:
    one, other = collapses("apns-collapse-id: score\r\n")
    assert len({one, other, b""}) == 3
    assert collapses("apns-collapse-id: score\r\n", ("bb",)) == [other]
    assert collapses("apns-collapse-id: news\r\n", ("bb",)) != [other]
    assert collapses("", ("bb",)) == [b""]
    assert collapses("apns-collapse-id: score\r\n", ("bb",), replace=False) == [b""]
