"""The message that ``mcmt send`` makes, read back by the part of mcmt that reads messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.cli.compose import make_message, make_payload, parse_field
from mcmt.message.mime import parse
from mcmt.message.model import Part, header


def sent(payload: bytes, tokens: tuple[str, ...] = ("ab",), fields: tuple[tuple[str, str], ...] = ()) -> Part:
    message = make_message("app@example.com", "push@apn.example.com", tokens, fields, payload, "b0")
    assert all(len(line) <= 998 for line in message.split(b"\r\n"))
    assert b"\n" not in message.replace(b"\r\n", b"")
    (part,) = parse(message).parts
    assert part.media_type == "message/vnd.msys.apn"
    return part


@given(st.binary(max_size=5000))
def test_the_payload_arrives_byte_for_byte_whatever_it_is(payload: bytes) -> None:
    assert sent(payload).content == payload


@pytest.mark.parametrize("payload", [b"{}", b"{" + b" " * 4094 + b"}", b"--b0--", b"\r\n--b0\r\n", b".\r\n", b""])
def test_payloads_that_look_like_something_else_arrive_too(payload: bytes) -> None:
    assert sent(payload).content == payload


def test_tokens_and_headers_go_with_the_part() -> None:
    part = sent(b"{}", ("aa", "bb"), (("apns-priority", "5"), ("Apns-Topic", "com.example.app")))
    assert [value for name, value in part.headers if name == "x-device-token"] == ["aa", "bb"]
    assert (header(part.headers, "apns-priority"), header(part.headers, "apns-topic")) == ("5", "com.example.app")


@pytest.mark.parametrize(
    ("given_", "aps"),
    [
        (("Hi", None, None, None), {"alert": "Hi"}),
        (("Hi", "Ho", None, None), {"alert": {"title": "Ho", "body": "Hi"}}),
        ((None, "Ho", None, None), {"alert": {"title": "Ho"}}),
        ((None, None, 0, "default"), {"badge": 0, "sound": "default"}),
        (("Grüße", None, 3, None), {"alert": "Grüße", "badge": 3}),
    ],
)
def test_the_flags_become_apples_keys(
    given_: tuple[str | None, str | None, int | None, str | None], aps: dict[str, object]
) -> None:
    assert json.loads(make_payload(*given_)) == {"aps": aps}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("apns-priority: 5", ("apns-priority", "5")),
        ("apns-collapse-id:a:b", ("apns-collapse-id", "a:b")),
        ("x:", ("x", "")),
    ],
)
def test_a_field_is_name_and_value(text: str, field: tuple[str, str]) -> None:
    assert parse_field(text) == field


@pytest.mark.parametrize("text", ["apns-priority", ": 5", "a b: c", "x: 1\r\nX-Device-Token: 2", "x: 1\n", ""])
def test_what_would_be_no_field_or_more_than_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a header field"):
        parse_field(text)
