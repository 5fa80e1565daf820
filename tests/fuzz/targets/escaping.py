"""Log lines: whatever an event holds it is one line, its columns are counted, and its values come back."""

from __future__ import annotations

import json
import re

import msgspec

from mcmt.eventlog.escape import escape, escape_address, escape_in_list, escape_quoted, escape_undecodable
from mcmt.eventlog.format import compile_format
from mcmt.eventlog.jsonline import compile_json, compile_token_json
from mcmt.eventlog.mainlog import MAINLOG, REJECTLOG
from mcmt.message.event import Event, Kind
from tests.fuzz.octets import Octets

LONGEST = 1024

COLUMNS = {"R": 15, "D": 12, "T": 14, "P": 14, "J": 13, "N": 8, "Q": 8, "M": 5}
"""Of each type, as the head of mcmt/eventlog/mainlog.py has them."""
_json = compile_json()
_token_json = compile_token_json()
_text = compile_format('%t@D@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti@%S@%e@%vctx_mess{key}')
_MACHINE_ESCAPE = re.compile(rb"\\x([0-9A-F]{2})")


def undone(text: str) -> bytes:
    """What mcmt/eventlog/escape.py tells a reader to do."""
    return _MACHINE_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text.encode())


def decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def run(data: bytes) -> None:
    octets = Octets(data)
    kind = list(Kind)[octets.number() % len(Kind)]
    names = ("id", "batch_id", "connection_id", "domain", "sender", "recipient", "token", "remote_id", "remote_address")
    values = {name: decoded(octets.piece()) for name in (*names, "code", "text", "phase", "protocol", "user")}
    key, raw = decoded(octets.piece()), octets.rest()
    event = Event(kind=kind, time=1_700_000_000.5, context={"key": decoded(raw), key: "x"})
    event = msgspec.structs.replace(event, **values)

    for form in (escape, escape_address, escape_quoted, escape_in_list):
        assert undone(form(decoded(raw))) == raw
        _is_a_line(form(decoded(raw)))
    assert "@" not in escape(decoded(raw))
    assert not set(escape_in_list(decoded(raw))) & set(" ,=[]")
    escape_undecodable(decoded(raw)).encode()

    if kind in MAINLOG:
        line = MAINLOG[kind](event)
        _is_a_line(line)
        columns = line.split("@")
        assert len(columns) == COLUMNS[kind.value], line
        assert columns[4] == kind.value
        if kind is not Kind.HEARTBEAT:
            assert [undone(column) for column in columns[1:4]] == [
                values[name].encode("utf-8", "surrogateescape") for name in ("id", "batch_id", "connection_id")
            ]
    if kind in REJECTLOG:
        rejected = REJECTLOG[kind](event)
        _is_a_line(rejected, quotes=rejected.count('"'))
        if kind is Kind.REJECTION:
            assert rejected.count('"') == 12
            assert undone(rejected.rpartition("] ")[2]) == values["text"].encode("utf-8", "surrogateescape") or (
                "] " in values["text"]
            )
    if kind in (Kind.DELIVERY, Kind.TRANSIENT, Kind.PERMANENT):
        text = _text(event)
        _is_a_line(text, quotes=4)
    as_json = _json(event)
    _is_a_line(as_json, quotes=as_json.count('"'))
    read = json.loads(as_json)
    assert read["type"] == kind.value
    assert read.get("text", "") == escape_undecodable(values["text"])
    if kind is Kind.TOKEN:
        token_line = _token_json(event)
        _is_a_line(token_line, quotes=token_line.count('"'))
        json.loads(token_line)


def _is_a_line(text: str, quotes: int = 0) -> None:
    assert len(f"{text}.".splitlines()) == 1, text
    assert text.count('"') == quotes
    text.encode()
