"""One event a stream, whatever its frames: each scenario whole, byte by byte and with frames behind it."""

from __future__ import annotations

import pytest

from mcmt.wire import frames
from mcmt.wire.frames import ErrorCode
from mcmt.wire.header_block import literal
from mcmt.wire.http2 import ClientConnection, Response, StreamReset, decode_headers

from .peer import BAD_REQUEST, GONE, OK, REQUEST, WHOLE, answer, connected, cut, data, feed_every_way

REASON = b'{"reason":"BadDeviceToken"}'
PARTIAL = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, OK)
END = frames.END_STREAM


def one() -> ClientConnection:
    return connected(streams=1, body=b"{}")


def three() -> ClientConnection:
    return connected(streams=3, body=b"{}")


def padded(kind: int, flags: int, content: bytes, padding: int) -> bytes:
    return frames.frame(kind, flags | frames.PADDED, 1, bytes([padding]) + content + bytes(padding))


@pytest.mark.parametrize(
    ("stream", "status", "body"),
    [
        (answer(1), 200, b""),
        (answer(1, GONE), 410, b""),
        (answer(1, BAD_REQUEST, REASON), 400, REASON),
        (PARTIAL + data(1, b"", END), 200, b""),
        (PARTIAL + data(1, REASON[:5]) + data(1, b"") + data(1, REASON[5:7]) + data(1, REASON[7:], END), 200, REASON),
        (PARTIAL + data(1, REASON) + data(1, b"", END), 200, REASON),
        (PARTIAL + padded(frames.DATA, END, REASON, 255), 200, REASON),
        (PARTIAL + padded(frames.DATA, END, b"", 0), 200, b""),
        (PARTIAL + data(1, REASON, END | 0x20), 200, REASON),  # 0x20 means nothing on DATA
        (padded(frames.HEADERS, WHOLE, OK, 9), 200, b""),
        (frames.frame(frames.HEADERS, WHOLE | frames.PRIORITY_FLAG, 1, b"\0\0\0\3\20" + OK), 200, b""),
        (padded(frames.HEADERS, WHOLE | frames.PRIORITY_FLAG, b"\0\0\0\3\20" + OK, 3), 200, b""),
        (frames.frame(frames.HEADERS, WHOLE, 1, b"\x20" + OK), 200, b""),
        (frames.frame(frames.HEADERS, END, 1, b"") + frames.frame(frames.CONTINUATION, 4, 1, OK), 200, b""),
        (frames.headers(1, OK + literal("x", "y" * 20), END, 3), 200, b""),
        (frames.headers(1, GONE + literal("x", "y" * 20), 0, 3) + data(1, REASON, END), 410, REASON),
        (PARTIAL + data(1, REASON) + frames.frame(frames.HEADERS, WHOLE, 1, literal("sum", "1")), 200, REASON),
        (PARTIAL + frames.headers(1, literal("checksum", "1"), END, 2), 200, b""),
        (answer(1) + frames.rst_stream(1, ErrorCode.NO_ERROR), 200, b""),
        (answer(1, BAD_REQUEST, REASON) + frames.rst_stream(1, ErrorCode.CANCEL), 400, REASON),
        (frames.frame(frames.PRIORITY, 0, 1, bytes(5)) + answer(1), 200, b""),
        (frames.window_update(1, 1000) + answer(1), 200, b""),
        (answer(1) + frames.window_update(1, 1000), 200, b""),
    ],
)
def test_a_response_is_one_event_however_it_is_framed(stream: bytes, status: int, body: bytes) -> None:
    outcome = feed_every_way(one, stream)
    assert outcome.error is None
    event = outcome.event
    assert isinstance(event, Response)
    assert (event.stream_id, event.status, event.body) == (1, status, body)
    assert decode_headers(event.block)[0] == (":status", str(status))


@pytest.mark.parametrize("interim", [100, 102, 103, 199])
def test_interim_responses_are_passed_over(interim: int) -> None:
    early = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, literal(":status", str(interim)))
    outcome = feed_every_way(one, early * 3 + answer(1, BAD_REQUEST, REASON))
    assert outcome.event == Response(1, 400, BAD_REQUEST, REASON)


def test_responses_come_in_the_order_of_their_ends() -> None:
    begun = frames.frame(frames.HEADERS, frames.END_HEADERS, 3, BAD_REQUEST) + data(3, REASON[:4])
    outcome = feed_every_way(three, begun + answer(5) + answer(1) + data(3, REASON[4:], END))
    assert outcome.events == [
        Response(5, 200, OK, b""),
        Response(1, 200, OK, b""),
        Response(3, 400, BAD_REQUEST, REASON),
    ]


@pytest.mark.parametrize("code", [0, 1, 2, 7, 8, 11, 0xFFFFFFFF])
def test_a_reset_is_one_event_with_the_peers_code(code: int) -> None:
    assert feed_every_way(one, frames.rst_stream(1, code) * 2).event == StreamReset(1, code)
    assert feed_every_way(one, PARTIAL + frames.rst_stream(1, code)).event == StreamReset(1, code)


@pytest.mark.parametrize(
    "stream",
    [
        data(1, REASON, END),  # DATA before HEADERS
        data(1, b""),
        frames.frame(frames.HEADERS, WHOLE, 1, b""),
        frames.frame(frames.HEADERS, WHOLE, 1, literal("date", "now")),
        frames.frame(frames.HEADERS, WHOLE, 1, literal("date", "now") + OK),
        frames.frame(frames.HEADERS, WHOLE, 1, literal(":status", "20")),
        frames.frame(frames.HEADERS, WHOLE, 1, literal(":status", "103")),  # an interim response that ends the stream
        frames.frame(frames.HEADERS, frames.END_HEADERS, 1, literal(":status", "101")),
        PARTIAL + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, literal("x", "y")),  # trailers without an end
        PARTIAL + answer(1),  # trailers with a pseudo-header
        frames.frame(frames.HEADERS, frames.END_HEADERS, 1, literal(":status", "103")) + data(1, REASON, END),
    ],
)
def test_a_malformed_response_ends_its_stream_alone(stream: bytes) -> None:
    outcome = feed_every_way(three, stream + answer(3))
    reset, response = outcome.events
    assert isinstance(reset, StreamReset)
    assert (reset.stream_id, reset.code) == (1, ErrorCode.PROTOCOL_ERROR)
    assert reset.reason
    assert response == Response(3, 200, OK, b"")
    assert frames.rst_stream(1, ErrorCode.PROTOCOL_ERROR) in outcome.sent


@pytest.mark.parametrize(
    "late",
    [
        answer(1),
        answer(1, BAD_REQUEST, REASON),
        data(1, REASON),
        frames.headers(1, literal("x", "y" * 50), END, 7),
        frames.frame(frames.HEADERS, WHOLE, 1, b"\xff\xff"),
        frames.rst_stream(1, 8),
        frames.window_update(1, 5),
        frames.window_update(1, 0),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
    ],
)
def test_what_comes_late_for_a_closed_stream_is_discarded(late: bytes) -> None:
    def after_reset() -> ClientConnection:
        connection = three()
        connection.reset(1)
        assert connection.data_to_send() == frames.rst_stream(1, ErrorCode.CANCEL)
        return connection

    def after_answer() -> ClientConnection:
        connection = three()
        connection.receive(answer(1))
        return connection

    for make in (after_reset, after_answer):
        outcome = feed_every_way(make, late + answer(3))
        assert (outcome.events, outcome.error, outcome.sent) == ([Response(3, 200, OK, b"")], None, b"")


def test_a_stream_that_is_reset_frees_its_slot_at_once() -> None:
    connection = connected(streams=1, max_concurrent_streams=1)
    assert connection.room == 0
    connection.reset(1)
    connection.reset(1)
    assert (connection.room, connection.open_streams) == (1, 0)
    assert connection.data_to_send() == frames.rst_stream(1, ErrorCode.CANCEL)


@pytest.mark.parametrize("stream_id", [7, 2, 8, 2**31 - 1])
@pytest.mark.parametrize(
    "build",
    [
        lambda sid: answer(sid),
        lambda sid: data(sid, b"x"),
        lambda sid: frames.rst_stream(sid, 0),
        lambda sid: frames.window_update(sid, 1),
    ],
)
def test_a_frame_on_a_stream_that_was_never_opened_ends_the_connection(stream_id: int, build) -> None:  # type: ignore[no-untyped-def]
    outcome = feed_every_way(three, answer(1) + build(stream_id))
    assert outcome.events == [Response(1, 200, OK, b"")]
    assert outcome.error == ErrorCode.PROTOCOL_ERROR


def test_priority_may_name_any_stream() -> None:
    for stream_id in (2, 99):
        assert feed_every_way(one, frames.frame(frames.PRIORITY, 0, stream_id, bytes(5))).error is None


@pytest.mark.parametrize(
    "stream",
    [
        frames.frame(frames.HEADERS, END, 1, OK) + frames.frame(frames.CONTINUATION, 4, 3, b""),
        frames.frame(frames.HEADERS, END, 1, OK) + answer(3),
        frames.frame(frames.HEADERS, END, 1, OK) + frames.ping(bytes(8)),
        frames.frame(frames.HEADERS, END, 1, OK) + frames.frame(0xBE, 0, 0),
        frames.frame(frames.CONTINUATION, 4, 1, OK),
        answer(1) + frames.frame(frames.CONTINUATION, 4, 1, OK),
        frames.frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + OK),
    ],
)
def test_a_broken_order_of_frames_ends_the_connection(stream: bytes) -> None:
    assert feed_every_way(three, stream).error == ErrorCode.PROTOCOL_ERROR


def test_an_empty_block_is_not_read_from_the_bytes_behind_it() -> None:
    outcome = feed_every_way(three, frames.frame(frames.HEADERS, WHOLE, 1, b"") + OK * 9)
    assert outcome.events == [StreamReset(1, ErrorCode.PROTOCOL_ERROR, "malformed response")]
    assert outcome.error == ErrorCode.FRAME_SIZE_ERROR


def test_a_block_that_cannot_be_decoded_ends_the_connection() -> None:
    outcome = feed_every_way(three, answer(1) + frames.frame(frames.HEADERS, WHOLE, 3, b"\xbe") + answer(5))
    assert outcome.events == [Response(1, 200, OK, b"")]
    assert outcome.error == ErrorCode.COMPRESSION_ERROR


def test_an_answer_before_the_request_is_sent_stops_the_rest_of_the_body() -> None:
    connection = connected(initial_window_size=10)
    stream_id = connection.request(REQUEST, b"x" * 30)
    assert connection.unsent(stream_id)
    assert sum(len(payload) for kind, _, _, payload in cut(connection.data_to_send()) if kind == frames.DATA) == 10
    events = connection.receive(answer(stream_id, BAD_REQUEST, REASON) + frames.rst_stream(stream_id, 0))
    assert events == [Response(stream_id, 400, BAD_REQUEST, REASON)]
    # Closed from this side too, or it would count against the peer's limit for ever.
    assert connection.data_to_send() == frames.rst_stream(stream_id, ErrorCode.CANCEL)
    assert not connection.unsent(stream_id)
    connection.receive(frames.window_update(stream_id, 100) + setting_window())
    assert cut(connection.data_to_send()) == [(frames.SETTINGS, frames.ACK, 0, b"")]


def setting_window() -> bytes:
    return frames.settings(((frames.INITIAL_WINDOW_SIZE, 1000),))


def test_a_reset_with_no_error_before_the_answer_is_a_reset() -> None:
    assert feed_every_way(one, PARTIAL + frames.rst_stream(1, 0)).event == StreamReset(1, 0)


def test_a_body_at_the_limit_is_taken_and_one_above_is_refused() -> None:
    whole = b"".join(data(1, bytes(16_384)) for _ in range(4))
    connection = one()
    (event,) = connection.receive(PARTIAL + whole + data(1, b"", END))
    assert isinstance(event, Response)
    assert len(event.body) == 65_536
    connection = three()
    reset, response = connection.receive(PARTIAL + whole + data(1, b"x") + data(1, b"x", END) + answer(3))
    assert reset == StreamReset(1, ErrorCode.CANCEL, "response body above 65536 bytes")
    assert response == Response(3, 200, OK, b"")


def test_padding_counts_against_the_limit_of_a_body() -> None:
    connection = one()
    events = connection.receive(PARTIAL + padded(frames.DATA, 0, b"x", 255) * 256)
    assert events == [StreamReset(1, ErrorCode.CANCEL, "response body above 65536 bytes")]
