"""Windows in both directions: nothing is sent that they do not allow, nothing waits that they do."""

from __future__ import annotations

import pytest

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.frames import ErrorCode
from mcmt.wire.http2 import ClientConnection, Response, StreamReset

from .peer import OK, REQUEST, answer, connected, cut, data, feed, feed_every_way, setting


def sent(connection: ClientConnection) -> list[tuple[int, bytes, bool]]:
    """The DATA that went out since the last look: (stream, content, whether it ends the stream)."""
    return [
        (stream_id, payload, bool(flags & frames.END_STREAM))
        for kind, flags, stream_id, payload in cut(connection.data_to_send())
        if kind == frames.DATA
    ]


def test_a_body_goes_out_as_far_as_its_streams_window_and_the_rest_when_it_opens() -> None:
    connection = connected(initial_window_size=4)
    assert connection.request(REQUEST, b"0123456789") == 1
    assert sent(connection) == [(1, b"0123", False)]
    assert connection.unsent(1)
    assert connection.room > 0  # another stream has a window of its own
    connection.receive(frames.window_update(1, 3))
    assert sent(connection) == [(1, b"456", False)]
    connection.receive(frames.window_update(1, 3))
    assert sent(connection) == [(1, b"789", True)]
    assert not connection.unsent(1)
    assert connection.receive(answer(1)) == [Response(1, 200, OK, b"")]


def test_a_used_up_connection_window_stops_bodies_and_room_and_opens_oldest_first() -> None:
    connection = connected(initial_window_size=100_000)
    connection.request(REQUEST, bytes(65_000))
    assert connection.room > 0
    second = connection.request(REQUEST, b"a" * 1000)
    assert connection.room == 0
    third = connection.request(REQUEST, b"b" * 1000)
    assert connection.unsent(second)
    assert connection.unsent(third)
    assert sum(len(content) for _, content, _ in sent(connection)) == 65_535
    connection.receive(frames.window_update(0, 500))
    assert sent(connection) == [(second, b"a" * 465, True), (third, b"b" * 35, False)]
    assert connection.room == 0
    connection.receive(frames.window_update(0, 10_000))
    assert sent(connection) == [(third, b"b" * 965, True)]
    assert connection.room > 0


def test_a_window_used_up_to_the_octet_with_nothing_waiting_leaves_room() -> None:
    connection = connected()
    connection.request(REQUEST, bytes(65_535))
    assert connection.room > 0


def test_bodies_are_cut_to_the_peers_frame_size() -> None:
    connection = connected(initial_window_size=1 << 20)
    connection.request(REQUEST, bytes(40_000))
    assert [len(content) for _, content, _ in sent(connection)] == [16_384, 16_384, 7_232]
    connection.receive(setting(max_frame_size=20_000))
    connection.request(REQUEST, bytes(25_000))
    assert [len(content) for _, content, _ in sent(connection)] == [20_000, 5_000]


def test_a_smaller_initial_window_may_put_open_streams_below_zero() -> None:
    connection = connected(initial_window_size=100)
    connection.request(REQUEST, b"x" * 150)
    assert sent(connection) == [(1, b"x" * 100, False)]
    connection.receive(setting(initial_window_size=20))  # the window is -80 now
    connection.receive(frames.window_update(1, 80))
    assert sent(connection) == []
    connection.receive(frames.window_update(1, 1))
    assert sent(connection) == [(1, b"x", False)]
    connection.receive(setting(initial_window_size=1000))
    assert sent(connection) == [(1, b"x" * 49, True)]


def test_zero_windows_hold_every_body_and_one_setting_lets_all_of_them_go() -> None:
    connection = connected(max_concurrent_streams=1000, initial_window_size=0)
    bodies = {connection.request(REQUEST, b"%d" % number): b"%d" % number for number in range(500)}
    assert sent(connection) == []
    assert all(map(connection.unsent, bodies))
    connection.receive(setting(initial_window_size=65_535))
    assert sent(connection) == [(stream_id, body, True) for stream_id, body in bodies.items()]


def test_a_stream_that_is_reset_sends_no_more_of_its_body() -> None:
    connection = connected(initial_window_size=0)
    connection.request(REQUEST, b"one")
    connection.request(REQUEST, b"two")
    connection.data_to_send()
    connection.reset(1)
    connection.receive(frames.rst_stream(3, ErrorCode.REFUSED_STREAM) + setting(initial_window_size=10))
    assert sent(connection) == []


def test_a_window_update_of_zero_ends_what_it_names() -> None:
    assert feed_every_way(connected, frames.window_update(0, 0)).error == ErrorCode.PROTOCOL_ERROR
    outcome = feed_every_way(lambda: connected(streams=2), frames.window_update(1, 0) + answer(3))
    reset, response = outcome.events
    assert reset == StreamReset(1, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
    assert response == Response(3, 200, OK, b"")


def test_a_window_above_31_bits_ends_what_it_belongs_to() -> None:
    most = 2**31 - 1 - 65_535
    assert feed_every_way(connected, frames.window_update(0, most)).error is None
    assert feed_every_way(connected, frames.window_update(0, most + 1)).error == ErrorCode.FLOW_CONTROL_ERROR

    def make() -> ClientConnection:
        return connected(streams=2)

    assert feed_every_way(make, frames.window_update(1, most)).events == []
    outcome = feed_every_way(make, frames.window_update(1, most) + frames.window_update(1, 1) + answer(3))
    assert outcome.events == [
        StreamReset(1, ErrorCode.FLOW_CONTROL_ERROR, "WINDOW_UPDATE overflows the window"),
        Response(3, 200, OK, b""),
    ]


def test_what_a_stream_has_sent_may_be_given_back_to_its_window() -> None:
    def make() -> ClientConnection:
        return connected(streams=1, body=b"x" * 100)

    most = 2**31 - 1 - 65_535 + 100
    assert feed_every_way(make, frames.window_update(1, most)).events == []
    assert len(feed_every_way(make, frames.window_update(1, most + 1)).events) == 1


def test_an_initial_window_that_overflows_an_open_stream_is_a_connection_error() -> None:
    grow = setting(initial_window_size=2**31 - 1)
    assert feed_every_way(lambda: connected(streams=1), grow).error is None
    outcome = feed_every_way(lambda: connected(streams=1), frames.window_update(1, 1) + grow)
    assert outcome.error == ErrorCode.FLOW_CONTROL_ERROR


def test_received_data_is_given_back_to_the_connection_in_half_windows() -> None:
    connection = connected(streams=1)
    connection.reset(1)
    connection.data_to_send()
    given = 0
    # For a closed stream too: what is discarded was received all the same.
    for number in range(1, 200):
        outcome = feed(connection, [data(1, bytes(16_384))])
        assert outcome.error is None
        for kind, _, stream_id, payload in cut(outcome.sent):
            assert (kind, stream_id) == (frames.WINDOW_UPDATE, 0)
            given += frames.read_u32(payload)
        assert 0 <= number * 16_384 - given < 524_288
    assert given > 2_500_000


def test_data_beyond_what_the_peer_was_told_it_may_send_is_a_flow_control_error() -> None:
    connection = connected(streams=1)
    connection.reset(1)
    connection.data_to_send()
    assert connection.receive(data(1, bytes(16_384)) * 64) == []  # the whole window of 1 MB; no update was handed out
    with pytest.raises(ProtocolError) as caught:
        connection.receive(data(1, b"x"))
    assert caught.value.code == ErrorCode.FLOW_CONTROL_ERROR


def test_padding_is_given_back_too() -> None:
    connection = connected(streams=1)
    connection.reset(1)
    connection.data_to_send()
    padded = frames.frame(frames.DATA, frames.PADDED, 1, b"\xff" + bytes(255))
    outcome = feed(connection, [padded] * 2048)
    assert cut(outcome.sent) == [(frames.WINDOW_UPDATE, 0, 0, (524_288).to_bytes(4))]


def test_five_thousand_error_bodies_do_not_stop_a_connection() -> None:
    connection = connected(max_concurrent_streams=100)
    body = b'{"reason":"BadDeviceToken"}' * 20
    given = 0
    for _ in range(50):
        ids = [connection.request(REQUEST, b"") for _ in range(100)]
        outcome = feed(connection, [b"".join(answer(stream_id, b"\x8c", body) for stream_id in ids)])
        assert [event.body for event in outcome.events if isinstance(event, Response)] == [body] * 100
        given += sum(frames.read_u32(p) for kind, _, _, p in cut(outcome.sent) if kind == frames.WINDOW_UPDATE)
    assert given >= 5000 * len(body) - 524_288


@pytest.mark.parametrize("size", [16_384, 16_385, 50_000])
def test_a_request_block_above_the_peers_frame_size_is_continued(size: int) -> None:
    connection = connected()
    connection.request(bytes(size), b"{}")
    *block, body = cut(connection.data_to_send())
    assert b"".join(payload for *_, payload in block) == bytes(size)
    assert all(len(payload) <= 16_384 for *_, payload in block)
    assert body == (frames.DATA, frames.END_STREAM, 1, b"{}")


def test_the_first_block_after_the_peer_shrank_its_table_says_so_once() -> None:
    connection = connected(header_table_size=0)
    connection.request(REQUEST, b"{}")
    connection.receive(setting(header_table_size=4096) + setting(header_table_size=10))
    connection.request(REQUEST, b"{}")
    blocks = [payload for kind, _, _, payload in cut(connection.data_to_send()) if kind == frames.HEADERS]
    assert blocks == [b"\x20" + REQUEST, REQUEST]


def test_a_table_of_the_initial_size_or_more_needs_no_word() -> None:
    for size in (4096, 65_536):
        connection = connected(header_table_size=size)
        connection.request(REQUEST, b"{}")
        assert cut(connection.data_to_send())[0][3] == REQUEST
