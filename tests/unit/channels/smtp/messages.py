"""Messages of the tests, and what is made of them."""

from __future__ import annotations

import email
from email.message import Message

import pytest

from channels.smtp.content import prepare
from channels.smtp.extensions import Extensions
from mcmt.errors import MessageError

EIGHT = Extensions(eight_bit=True)
UTF8 = Extensions(eight_bit=True, utf8=True)
LONG = b"x" * 999


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def parse(data: bytes) -> Message:
    return email.message_from_bytes(data)


def decoded(message: Message) -> bytes:
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def refusal(data: bytes, extensions: Extensions = EIGHT) -> str:
    with pytest.raises(MessageError) as caught:
        prepare(data, extensions)
    return str(caught.value)


def prepared(data: bytes, extensions: Extensions) -> bytes | str:
    """What is sent, or the refusal."""
    try:
        return prepare(data, extensions).data
    except MessageError as error:
        return str(error)
