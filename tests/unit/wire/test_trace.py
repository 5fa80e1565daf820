"""Watches: what they are told, what is hidden from them, and that they stay within their bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.wire import frames
from mcmt.wire.header_block import literal
from mcmt.wire.hidden import hidden_field, hidden_text
from mcmt.wire.http2_trace import Http2Trace
from mcmt.wire.trace import FORGOTTEN, LINES, MAX_BODY, Line, Trace, Tracing, Watch
from tests.support.manual_clock import ManualClock

DOMAIN = "apn.example.com"
TOKEN = "0123456789abcdef" * 4
WATCH = Watch(1, DOMAIN)


class Watching:
    """A process in which somebody watches DOMAIN."""

    def __init__(self, *watches: Watch) -> None:
        self.clock = ManualClock()
        self.tracing = Tracing(self.clock, 3)
        self.watches = watches or (WATCH,)
        for watch in self.watches:
            self.tracing.fetch(watch)

    def trace(self) -> Trace:
        trace = self.tracing.trace(DOMAIN, "192.0.2.1")
        assert trace is not None
        return trace

    def lines(self, watch: Watch | None = None) -> tuple[Line, ...]:
        return self.tracing.fetch(watch or self.watches[0]).lines


def test_a_connection_has_nobody_to_tell_unless_its_domain_is_watched() -> None:
    it = Watching()
    assert it.tracing.trace("other.example.com") is None
    trace = it.trace()
    trace.tell("sent", "PING")
    (line,) = it.lines()
    assert (line.connection, line.peer, line.way, line.what) == ("3.1", "192.0.2.1", "sent", "PING")
    assert it.lines() == (), "a line is told once"


def test_who_listens_hears_of_the_first_watch_of_a_domain_and_of_the_end_of_the_last() -> None:
    tracing, heard = Tracing(ManualClock()), list[tuple[str, bool]]()
    tracing.on_change(lambda domain: heard.append((domain, tracing.trace(domain) is not None)))
    for number in (1, 2):
        tracing.fetch(Watch(number, DOMAIN))
    tracing.end(1)
    assert heard == [(DOMAIN, True)]
    tracing.end(2)
    tracing.end(7)
    assert heard == [(DOMAIN, True), (DOMAIN, False)]
    assert not tracing.watched


def test_what_comes_while_a_watch_is_full_is_counted_behind_what_it_has() -> None:
    it = Watching(WATCH, Watch(2, DOMAIN))
    trace = it.trace()
    for _ in range(LINES):
        trace.tell("sent", "PING")
    it.lines(it.watches[1])
    for _ in range(5):
        assert trace.has_room, "the other watch has"
        trace.tell("sent", "PING")
    told = it.tracing.fetch(it.watches[0])
    assert (len(told.lines), told.left_out) == (LINES, 5)
    told = it.tracing.fetch(it.watches[1])
    assert (len(told.lines), told.left_out) == (5, 0)


def test_while_nobody_has_room_frames_are_counted_and_not_read() -> None:
    it = Watching()
    trace = it.trace()
    for _ in range(LINES):
        trace.tell("sent", "PING")
    http2 = Http2Trace(trace)
    http2.received(frames.ping(b"12345678") * 20)
    assert it.tracing.fetch(WATCH).left_out == 20


def test_a_watch_that_is_forgotten_ends_when_something_is_told() -> None:
    it = Watching()
    trace = it.trace()
    it.clock.advance(FORGOTTEN + 1)
    trace.tell("sent", "PING")
    assert trace.over
    assert not it.tracing.watched


def test_device_tokens_and_payloads_are_shown_to_those_alone_who_asked() -> None:
    everything = Watch(2, DOMAIN, bodies=True, tokens=True)
    it = Watching(WATCH, everything)
    it.trace().tell(
        "sent", "DATA", f"to {TOKEN}", fields=[(":path", f"/3/device/{TOKEN}")], octets=9, body=b"You have "
    )
    (less,), (all_,) = it.lines(WATCH), it.lines(everything)
    assert TOKEN not in repr(less)
    assert less.fields == ((":path", "/3/device/0123...cdef"),)
    assert (less.body, less.octets) == ("", 9)
    assert (all_.text, all_.fields, all_.body) == (f"to {TOKEN}", ((":path", f"/3/device/{TOKEN}"),), "You have ")


def test_of_a_body_the_front_is_kept() -> None:
    it = Watching(Watch(1, DOMAIN, bodies=True))
    it.trace().tell("sent", "DATA", octets=100_000, body=b"x" * 100_000)
    (line,) = it.lines()
    assert (len(line.body), line.octets) == (MAX_BODY, 100_000)


SECRET = "s3cr3t-AbCdEf"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", f"bearer {SECRET}"),
        ("Authorization", SECRET),
        ("proxy-authorization", f"Basic {SECRET}"),
        ("Authorization", f"{SECRET} rest"),
        ("cookie", f"id={SECRET}"),
        ("set-cookie", f"id={SECRET}; Path=/; Secure"),
        ("crypto-key", f"p256ecdsa={SECRET}; dh=x"),
        ("x-api-key", f"{SECRET} rest"),
        ("X-Auth-Token", SECRET),
        ("X-Amz-Security-Token", SECRET),
        ("Cf-Access-Client-Secret", SECRET),
        ("x-debug", f"sent Bearer {SECRET}"),
        ("x-debug", f"eyJhbGciOiJFUzI1NiJ9.{SECRET}.{SECRET}"),
    ],
)
@pytest.mark.parametrize("tokens", [False, True])
def test_what_authorizes_is_never_shown(name: str, value: str, tokens: bool) -> None:
    assert SECRET not in hidden_field(name, value, tokens)


@pytest.mark.parametrize("name", [":authority", "x-device-token", "apns-id", "idempotency-key", "author"])
def test_other_fields_are_shown(name: str) -> None:
    assert hidden_field(name, "shown", False) == "shown"


def test_of_what_authorizes_the_scheme_and_the_length_are_shown() -> None:
    assert hidden_field("authorization", f"bearer {SECRET}", False) == "bearer ... (20 octets)"
    assert hidden_field("cookie", f"id={SECRET}", False) == "... (16 octets)"


@given(st.sampled_from(["AUTH PLAIN ", "auth login ", " AUTH\tXOAUTH2 "]), st.text(min_size=1))
def test_nothing_behind_the_mechanism_of_auth_is_shown(verb: str, secret: str) -> None:
    assert hidden_text(f"{verb}<{secret}>", True) == f"{verb.rstrip()} ..."


def block(*fields: tuple[str, str]) -> bytes:
    return b"".join(literal(*field) for field in fields)


REQUEST = frames.headers(1, block((":method", "POST"), ("authorization", f"bearer {SECRET}")), 0, 16_384)
CONVERSATION = (
    frames.settings(((frames.MAX_CONCURRENT_STREAMS, 1000), (frames.ENABLE_PUSH, 0)))
    + frames.frame(frames.SETTINGS, frames.ACK, 0)
    + REQUEST
    + frames.frame(frames.DATA, frames.END_STREAM, 1, b'{"reason":"BadDeviceToken"}')
    + frames.ping(b"12345678")
    + frames.window_update(0, 1000)
    + frames.rst_stream(3, 7)
    + frames.goaway(1, 0, b'{"reason":"Shutdown"}')
    + frames.frame(77, 0, 5, b"abc")
)


def shown(*pieces: bytes) -> list[tuple[str, int, str, str]]:
    it = Watching()
    http2 = Http2Trace(it.trace())
    for piece in pieces:
        http2.received(piece)
    return [(line.what, line.stream, line.text, line.body) for line in it.lines()]


def test_every_frame_is_shown_with_what_it_says() -> None:
    it = Watching()
    Http2Trace(it.trace()).received(CONVERSATION)
    lines = it.lines()
    assert [line.what for line in lines] == [
        *("SETTINGS", "SETTINGS", "HEADERS", "DATA", "PING", "WINDOW_UPDATE", "RST_STREAM", "GOAWAY"),
        "frame of type 77",
    ]
    assert lines[0].fields == (("MAX_CONCURRENT_STREAMS", "1000"), ("ENABLE_PUSH", "0"))
    assert lines[1].text == "ack"
    assert lines[2].fields == ((":method", "POST"), ("authorization", "bearer ... (20 octets)"))
    assert (lines[3].stream, lines[3].text, lines[3].body) == (1, "end", '{"reason":"BadDeviceToken"}')
    assert [line.text for line in lines[5:8]] == ["+1000", "REFUSED_STREAM", "NO_ERROR, last stream 1"]
    assert lines[7].body == '{"reason":"Shutdown"}'


@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=8))
def test_it_is_the_same_however_the_bytes_come(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CONVERSATION)]
    pieces = [CONVERSATION[start:end] for start, end in pairwise(places)]
    assert shown(*pieces) == shown(CONVERSATION)


def test_from_the_middle_of_a_frame_it_is_read_with_what_had_come_before() -> None:
    it = Watching()
    Http2Trace(it.trace(), REQUEST[:20]).received(REQUEST[20:])
    assert [line.what for line in it.lines()] == ["HEADERS"]


@given(st.binary(max_size=200))
def test_nothing_that_a_peer_sends_is_more_than_a_line(data: bytes) -> None:
    http2 = Http2Trace(Watching().trace())
    http2.received(data)
    http2.sent(data)
