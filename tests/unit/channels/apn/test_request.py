"""The header block of a push."""

from __future__ import annotations

import msgspec
from hpack import Decoder

from channels.apn.request import RequestBuilder
from mcmt.message.identity import uuid_of
from mcmt.message.model import Delivery, Headers, Part, Sender
from mcmt.message.notification import Asked
from mcmt.message.priority import BULK, HIGH

BATCH = "018bcfe568007abc8123456789ab"[:24]


def delivery(headers: Headers = (), number: int = 1, token: str = "ab" * 32) -> Delivery:
    sender = Sender(BATCH, 1_700_000_000.5, "app@example.com", {})
    return Delivery(
        row=1,
        number=number,
        domain="push.example.com",
        recipient="user@push.example.com",
        token=token,
        attempts=0,
        expires=2e9,
        sender=sender,
        part=Part("message/vnd.msys.apn", headers, b"{}"),
    )


def fields_of(block: bytes) -> list[tuple[str, str]]:
    """The block as an independent decoder reads it."""
    return [(str(name), str(value)) for name, value in Decoder().decode(block)]


def test_an_independent_decoder_reads_the_whole_request_with_pseudo_headers_first() -> None:
    builder = RequestBuilder("api.push.apple.com", "com.example.app", 604_800)
    builder.authorize("a.b.c")
    block, apns_id = builder.block(delivery((("apns-push-type", "alert"), ("apns-priority", "10"))))
    assert fields_of(block) == [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "api.push.apple.com"),
        (":path", "/3/device/" + "ab" * 32),
        ("authorization", "bearer a.b.c"),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
        ("apns-topic", "com.example.app"),
        ("apns-id", apns_id),
        ("apns-expiration", str(1_700_000_000 + 604_800)),
    ]


def test_blocks_do_not_depend_on_their_order() -> None:
    builder = RequestBuilder("api.push.apple.com", "com.example.app", 60)
    first, _ = builder.block(delivery(number=1))
    builder.block(delivery(number=2, token="cd" * 32))
    again, _ = builder.block(delivery(number=1))
    assert first == again


def test_the_messages_own_topic_and_expiration_win_over_the_domains() -> None:
    builder = RequestBuilder("api.push.apple.com", "com.example.app", 60)
    block, _ = builder.block(delivery((("apns-topic", "com.example.other"), ("apns-expiration", "0"))))
    fields = fields_of(block)
    assert [value for name, value in fields if name == "apns-topic"] == ["com.example.other"]
    assert [value for name, value in fields if name == "apns-expiration"] == ["0"]


def test_the_apns_id_is_derived_from_the_delivery_unless_the_message_gives_one() -> None:
    builder = RequestBuilder("api.push.apple.com", None, 60)
    _, derived = builder.block(delivery(number=7))
    assert derived == uuid_of(BATCH, 7)
    given = "123e4567-e89b-12d3-a456-426614174000"
    block, used = builder.block(delivery((("apns-id", given),)))
    assert used == given
    assert [value for name, value in fields_of(block) if name == "apns-id"] == [given]


def test_an_expiry_of_zero_is_now_or_never() -> None:
    block, _ = RequestBuilder("api.push.apple.com", None, 0.0).block(delivery())
    assert ("apns-expiration", "0") in fields_of(block)


def test_a_renewed_provider_token_is_sent_from_then_on() -> None:
    builder = RequestBuilder("api.push.apple.com", None, 60)
    builder.authorize("old")
    builder.block(delivery())
    builder.authorize("new")
    block, _ = builder.block(delivery())
    assert ("authorization", "bearer new") in fields_of(block)


def test_what_is_prepared_for_messages_is_bounded() -> None:
    builder = RequestBuilder("api.push.apple.com", None, 60)
    for number in range(5000):
        builder.block(delivery((("apns-collapse-id", str(number)),)))
    assert len(builder._prepared) <= 1024


def test_a_time_that_the_sender_gave_is_the_expiration_of_a_push_that_names_none() -> None:
    begin = 1_700_000_000.5

    def expiration(asked: Asked, expiry: float = 600, headers: Headers = ()) -> str:
        builder = RequestBuilder("api.push.apple.com", "com.example.app", expiry)
        one = msgspec.structs.replace(delivery(headers), asked=asked)
        return dict(fields_of(builder.block(one)[0]))["apns-expiration"]

    assert expiration(Asked(deadline=begin + 60)) == "1700000060"
    assert expiration(Asked(deadline=begin + 6000)) == "1700000600"
    # A push that was put off lives from then on.
    assert expiration(Asked(begin=begin + 10_000)) == "1700010600"
    assert expiration(Asked(begin=begin + 10_000, deadline=begin + 10_060)) == "1700010060"
    assert expiration(Asked(deadline=begin + 60), headers=(("apns-expiration", "7"),)) == "7"
    assert expiration(Asked(deadline=begin + 60), expiry=0) == "0"


def test_what_lets_everything_else_pass_need_not_wake_the_device() -> None:
    builder = RequestBuilder("api.push.apple.com", "com.example.app", 60)

    def priority(value: int, headers: Headers = ()) -> str | None:
        one = msgspec.structs.replace(delivery(headers), priority=value)
        return dict(fields_of(builder.block(one)[0])).get("apns-priority")

    assert [priority(BULK), priority(HIGH), priority(BULK)] == ["5", None, "5"]
    assert priority(BULK, (("apns-priority", "10"),)) == "10"
