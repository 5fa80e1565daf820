"""``format: json``: complete objects, one a line, tokens hidden on request."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.eventlog.jsonline import compile_json
from mcmt.message.event import Event, Kind
from tests.unit.eventlog.support import delivery

TOKEN = "0123456789abcdef" * 4
FULL = compile_json()


def read(line: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(line)
    return value


@pytest.mark.parametrize("kind", [Kind.DELIVERY, Kind.TRANSIENT, Kind.PERMANENT])
def test_a_result_has_every_name_even_when_it_is_zero(kind: Kind) -> None:
    record = read(FULL(delivery(0, kind=kind, queued=0.1 + 0.2)))
    assert record == {
        "type": kind.value,
        "time": 1_700_000_000.0,
        "id": "018bcfe568007123a8b9c0d1-0",
        "batch_id": "018bcfe568007123a8b9c0d1",
        "domain": "apn.example.com",
        "channel": "apn",
        "sender": "app@example.com",
        "recipient": "user42@apn.example.com",
        "token": "ab" * 32,
        "size": 187,
        "remote_id": "018bcfe5-6800-7123-a8b9-c0d100000001",
        "remote_address": "17.188.1.2",
        "code": "",
        "text": "",
        "attempt": 0,
        "queued": 0.3,
        "wire": 0.0,
    }


def test_what_is_known_beyond_that_is_added() -> None:
    record = read(FULL(delivery(0, gone_since=5.0, context={"campaign": "x"}, phase="sent", connection_id="c1")))
    assert (record["gone_since"], record["context"], record["phase"]) == (5.0, {"campaign": "x"}, "sent")


def test_other_types_leave_out_what_is_unknown() -> None:
    assert read(FULL(Event(kind=Kind.HEARTBEAT, time=1.5, channel="apn_logger.one"))) == {
        "type": "M",
        "time": 1.5,
        "channel": "apn_logger.one",
    }
    assert read(FULL(Event(kind=Kind.RECEPTION, time=1.5, id="a-1", deliveries=3, size=900)))["deliveries"] == 3


@given(st.text(), st.binary(), st.dictionaries(st.text(), st.text()))
def test_whatever_the_input_a_line_is_one_object(text: str, raw: bytes, context: dict[str, str]) -> None:
    event = delivery(0, text=text, sender=raw.decode("utf-8", "surrogateescape"), context=context)
    line = FULL(event)
    assert len(line.splitlines()) == 1
    line.encode()
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert read(line)["text"] == text


def test_bytes_that_are_not_utf8_are_shown() -> None:
    assert read(FULL(delivery(0, text="a\udcffb")))["text"] == "a\\xFFb"


def test_the_time_keeps_its_microseconds() -> None:
    assert read(FULL(msgspec.structs.replace(delivery(0), time=1_700_000_000.123456)))["time"] == 1_700_000_000.123456
