"""The frame layer, held against the HTTP/2 JP group's vectors (tests/unit/wire/vectors, MIT)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.http2 import ClientConnection, GoAway, StreamReset

from .peer import REQUEST, connected, cut, feed_every_way, setting

VECTORS = Path(__file__).parent / "vectors"
ALL = {str(path.relative_to(VECTORS)): json.loads(path.read_text()) for path in sorted(VECTORS.glob("*/*.json"))}
VALID = {name: vector for name, vector in ALL.items() if vector["error"] is None}
BROKEN = {name: vector for name, vector in ALL.items() if vector["error"] is not None}


def read(wire: bytes) -> tuple[int, int, int, int, dict[str, Any]]:
    """(length, type, flags, stream id, content) by the functions that the connection uses."""
    word, flags, stream_id = frames.HEAD.unpack_from(wire)
    kind, payload = word & 0xFF, wire[9 : 9 + (word >> 8)]
    stream_id &= frames.MAX_31
    if word > frames.LIMIT:
        raise ProtocolError("frame longer than MAX_FRAME_SIZE", frames.ErrorCode.FRAME_SIZE_ERROR)
    frames.check(kind, stream_id, word >> 8)
    contents: dict[int, Callable[[], dict[str, Any]]] = {
        frames.DATA: lambda: {"data": frames.unpad(flags & frames.PADDED, payload)},
        frames.HEADERS: lambda: {"header_block_fragment": frames.unpad(flags, payload)},
        frames.CONTINUATION: lambda: {"header_block_fragment": payload},
        frames.RST_STREAM: lambda: {"error_code": frames.read_u32(payload)},
        frames.SETTINGS: lambda: {"settings": frames.read_settings(flags, payload)},
        frames.PING: lambda: {"opaque_data": payload},
        frames.GOAWAY: lambda: dict(
            zip(("last_stream_id", "error_code", "additional_debug_data"), frames.read_goaway(payload), strict=True)
        ),
        frames.WINDOW_UPDATE: lambda: {"window_size_increment": frames.read_u32(payload)},
    }
    return word >> 8, kind, flags, stream_id, contents.get(kind, dict)()


def plain(value: Any) -> Any:
    """A vector's value in our terms: bytes for strings, tuples for lists."""
    if isinstance(value, str):
        return value.encode()
    return tuple(map(plain, value)) if isinstance(value, list) else value


def test_every_vector_is_there() -> None:
    assert len(VALID) == 12
    assert len(BROKEN) == 22


@pytest.mark.parametrize("name", VALID)
def test_a_valid_frame_is_read_as_its_vector_says(name: str) -> None:
    frame = VALID[name]["frame"]
    length, kind, flags, stream_id, content = read(bytes.fromhex(VALID[name]["wire"]))
    assert (length, kind, flags, stream_id) == (
        frame["length"],
        frame["type"],
        frame["flags"],
        frame["stream_identifier"],
    )
    for field, value in content.items():
        assert value == plain(frame["frame_payload"][field])
    # What a client does not act upon is all that may stay unread.
    assert content or kind in (frames.PRIORITY, frames.PUSH_PROMISE)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("settings/normal.json", lambda f: frames.settings(tuple(map(tuple, f["settings"])))),
        ("ping/normal.json", lambda f: frames.ping(f["opaque_data"].encode())),
        ("rst_stream/normal.json", lambda f: frames.rst_stream(5, f["error_code"])),
        ("window_update/normal.json", lambda f: frames.window_update(50, f["window_size_increment"])),
        (
            "goaway/normal.json",
            lambda f: frames.goaway(f["last_stream_id"], f["error_code"], f["additional_debug_data"].encode()),
        ),
        ("headers/normal.json", lambda f: frames.headers(1, f["header_block_fragment"].encode(), 0, 16_384)),
        ("continuation/header.json", lambda f: frames.frame(9, 0, 50, f["header_block_fragment"].encode())),
        ("continuation/normal.json", lambda f: frames.frame(9, 0, 50)),
    ],
)
def test_a_frame_that_a_client_sends_is_built_as_its_vector_says(name: str, build: Callable[[Any], bytes]) -> None:
    assert build(VALID[name]["frame"]["frame_payload"]).hex() == VALID[name]["wire"].lower()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_frame_ends_its_stream_or_the_connection_with_the_code_of_its_vector(name: str) -> None:
    def make() -> ClientConnection:
        return connected(streams=1)

    outcome = feed_every_way(make, bytes.fromhex(BROKEN[name]["wire"]))
    codes = [event.code for event in outcome.events if isinstance(event, StreamReset)]
    if outcome.error is not None:
        codes.append(outcome.error)
    assert len(codes) == 1
    assert codes[0] in BROKEN[name]["error"]


@pytest.mark.parametrize("name", VALID)
def test_a_valid_frame_is_met_by_a_connection_as_the_rfc_says(name: str) -> None:
    """Some of the vectors name streams or blocks that a client cannot have: those are errors of another layer."""
    expected: dict[str, object] = {
        "continuation/header.json": frames.ErrorCode.PROTOCOL_ERROR,  # no HEADERS before it
        "continuation/normal.json": frames.ErrorCode.PROTOCOL_ERROR,
        "data/normal.json": frames.ErrorCode.PROTOCOL_ERROR,  # on a stream that only a server opens
        "goaway/normal.json": [GoAway(30, 9, b"hpack is broken")],
        "headers/normal.json": frames.ErrorCode.COMPRESSION_ERROR,  # "this is dummy" is no header block
        "headers/priority.json": frames.ErrorCode.COMPRESSION_ERROR,
        "ping/normal.json": [],
        "priority/normal.json": [],
        "push_promise/normal.json": frames.ErrorCode.PROTOCOL_ERROR,  # push is off
        "rst_stream/normal.json": [StreamReset(5, 8)],
        "settings/normal.json": None,
        "window_update/normal.json": frames.ErrorCode.PROTOCOL_ERROR,  # a stream that only a server opens
    }

    outcome = feed_every_way(lambda: connected(streams=3), bytes.fromhex(VALID[name]["wire"]))
    if expected[name] is not None:
        assert (outcome.events if outcome.error is None else outcome.error) == expected[name]


def test_a_settings_vector_is_in_force_and_acknowledged() -> None:
    connection = connected()
    connection.receive(bytes.fromhex(VALID["settings/normal.json"]["wire"]))
    assert connection.peer_settings.max_concurrent_streams == 5000
    assert connection.peer_settings.header_table_size == 8192
    assert connection.data_to_send() == frames.frame(frames.SETTINGS, frames.ACK, 0)


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 40_000])
def test_a_long_block_is_cut_into_continuations_that_end_once(size: int) -> None:
    built = frames.headers(7, b"x" * size, frames.END_STREAM, 16_384)
    pieces = cut(built)
    assert b"".join(payload for *_, payload in pieces) == b"x" * size
    assert [kind for kind, *_ in pieces] == [frames.HEADERS] + [frames.CONTINUATION] * (len(pieces) - 1)
    assert [bool(flags & frames.END_HEADERS) for _, flags, *_ in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [flags & frames.END_STREAM for _, flags, *_ in pieces] == [1] + [0] * (len(pieces) - 1)
    assert all(len(payload) <= 16_384 for *_, payload in pieces)


def test_a_frame_above_the_size_we_allow_is_refused_from_its_header_alone() -> None:
    outcome = feed_every_way(lambda: connected(streams=1), frames.HEAD.pack(16_385 << 8, 0, 1))
    assert outcome.error == frames.ErrorCode.FRAME_SIZE_ERROR


def test_a_frame_of_exactly_the_size_we_allow_is_taken() -> None:
    assert feed_every_way(lambda: connected(streams=1), frames.frame(0xBE, 0, 1, bytes(16_384))).error is None


def test_the_reserved_bit_of_a_stream_id_is_ignored() -> None:
    connection = connected(streams=1)
    (event,) = connection.receive(frames.frame(frames.RST_STREAM, 0, 1 | 1 << 31, b"\0\0\0\7"))
    assert event == StreamReset(1, 7)


def test_the_greeting_is_preface_settings_and_a_larger_window() -> None:
    greeting = ClientConnection().data_to_send()
    assert greeting.startswith(frames.PREFACE)
    first, second = cut(greeting)
    assert first[:3] == (frames.SETTINGS, 0, 0)
    assert dict(frames.read_settings(0, first[3])) == {1: 0, 2: 0, 4: 81_920, 6: 16_384}
    assert second[:3] == (frames.WINDOW_UPDATE, 0, 0)
    assert 65_535 + frames.read_u32(second[3]) == 1_048_576


def test_a_request_without_a_body_ends_its_stream_with_its_headers() -> None:
    connection = connected()
    connection.request(REQUEST, b"")
    assert connection.data_to_send() == frames.frame(frames.HEADERS, 5, 1, REQUEST)


@pytest.mark.parametrize("values", [{"enable_push": 1}, {"max_frame_size": 16_383}, {"max_frame_size": 16_777_216}])
def test_a_setting_out_of_range_is_a_protocol_error(values: dict[str, int]) -> None:
    assert feed_every_way(connected, setting(**values)).error == frames.ErrorCode.PROTOCOL_ERROR


def test_an_initial_window_above_31_bits_is_a_flow_control_error() -> None:
    outcome = feed_every_way(connected, setting(initial_window_size=1 << 31))
    assert outcome.error == frames.ErrorCode.FLOW_CONTROL_ERROR
