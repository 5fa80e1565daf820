"""How many streams may be open, what ends a connection, and what a peer cannot make grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.frames import ErrorCode
from mcmt.wire.http2 import MAX_IDLE_FRAMES, ClientConnection, GoAway, PingAcknowledged, Response, SettingsChanged

from .peer import OK, REQUEST, answer, connected, cut, data, feed, feed_every_way, setting

ACKNOWLEDGED = frames.frame(frames.SETTINGS, frames.ACK, 0)


def test_there_is_no_room_before_the_peers_settings() -> None:
    connection = ClientConnection()
    assert connection.room == 0
    with pytest.raises(ProtocolError, match="no room"):
        connection.request(REQUEST, b"")
    assert connection.receive(setting(max_concurrent_streams=7)) == [SettingsChanged(7)]
    assert connection.room == 7


def test_a_peer_without_a_limit_is_held_to_our_own() -> None:
    connection = ClientConnection(max_streams=3)
    assert connection.receive(setting()) == [SettingsChanged(0xFFFFFFFF)]
    assert connection.room == 3


def test_room_promises_that_many_requests_and_no_more() -> None:
    connection = connected(max_concurrent_streams=5)
    assert [connection.request(REQUEST, bytes(60_000)) for _ in range(connection.room)] == [1, 3, 5, 7, 9]
    assert (connection.room, connection.open_streams) == (0, 5)
    with pytest.raises(ProtocolError, match="no room"):
        connection.request(REQUEST, b"")


def test_a_limit_that_falls_below_the_open_streams_leaves_no_room_until_enough_ended() -> None:
    connection = connected(streams=10, max_concurrent_streams=1000)
    assert connection.receive(setting(max_concurrent_streams=1)) == [SettingsChanged(1)]
    rooms = []
    for stream_id in range(1, 21, 2):
        rooms.append(connection.room)
        connection.receive(answer(stream_id))
    assert rooms == [0] * 10
    assert connection.room == 1
    connection.receive(setting(max_concurrent_streams=1000))
    assert connection.room == 1000


def test_a_limit_of_zero_is_a_limit() -> None:
    assert connected(max_concurrent_streams=0).room == 0


def test_a_setting_that_is_not_named_keeps_its_value() -> None:
    connection = connected(max_concurrent_streams=5)
    connection.receive(setting(initial_window_size=1) + frames.settings(((0xBEEF, 1),)))
    assert connection.room == 5
    assert connection.data_to_send() == ACKNOWLEDGED * 2


def test_room_ends_with_the_stream_ids() -> None:
    connection = connected()
    connection._next_id = 2**31 - 3
    assert connection.room == 2
    assert [connection.request(REQUEST, b"{}") for _ in range(2)] == [2**31 - 3, 2**31 - 1]
    assert connection.room == 0
    with pytest.raises(ProtocolError, match="no room"):
        connection.request(REQUEST, b"")
    assert feed(connection, [answer(2**31 - 1)]).event == Response(2**31 - 1, 200, OK, b"")


def test_goaway_leaves_what_may_still_be_answered_and_forgets_the_rest() -> None:
    outcome = feed_every_way(
        lambda: connected(streams=5),
        frames.goaway(5, 0, b'{"reason":"Shutdown"}') + answer(9) + answer(5) + setting(max_concurrent_streams=9),
    )
    assert outcome.events == [
        GoAway(5, 0, b'{"reason":"Shutdown"}'),
        Response(5, 200, OK, b""),
        SettingsChanged(9),
    ]


def test_nothing_is_opened_after_goaway_whatever_settings_follow() -> None:
    connection = connected(streams=5)
    connection.receive(frames.goaway(5, 0))
    assert (connection.room, connection.open_streams) == (0, 3)
    connection.receive(setting(max_concurrent_streams=1000) + answer(1))
    assert (connection.room, connection.open_streams) == (0, 2)


def test_a_second_goaway_may_lower_the_last_stream_and_not_raise_it() -> None:
    connection = connected(streams=5)
    seen = []
    for last in (2**31 - 1, 5, 9, 1):
        (event,) = connection.receive(frames.goaway(last, 0))
        assert isinstance(event, GoAway)
        seen.append((event.last_stream_id, connection.open_streams))
    assert seen == [(2**31 - 1, 5), (5, 3), (5, 3), (1, 1)]


def test_a_body_that_waits_for_a_stream_given_up_by_goaway_is_not_sent() -> None:
    connection = connected(initial_window_size=0)
    connection.request(REQUEST, b"one")
    connection.request(REQUEST, b"two")
    connection.data_to_send()
    connection.receive(frames.goaway(1, 0) + setting(initial_window_size=100))
    assert cut(connection.data_to_send()) == [(frames.SETTINGS, frames.ACK, 0, b""), (frames.DATA, 1, 1, b"one")]


def test_close_says_goaway_once_and_takes_what_is_still_answered() -> None:
    connection = connected(streams=2)
    connection.close()
    connection.close(ErrorCode.INTERNAL_ERROR)
    assert connection.data_to_send() == frames.goaway(0, 0)
    assert connection.room == 0
    assert connection.receive(setting(max_concurrent_streams=9) + answer(3)) == [
        SettingsChanged(9),
        Response(3, 200, OK, b""),
    ]
    assert connection.room == 0


def test_close_is_said_also_after_the_peers_goaway() -> None:
    connection = connected()
    connection.receive(frames.goaway(0, 0))
    connection.close()
    assert connection.data_to_send() == frames.goaway(0, 0)


def test_a_ping_is_answered_and_ours_is_reported() -> None:
    assert feed_every_way(connected, frames.ping(b"12345678")).sent == frames.ping(b"12345678", frames.ACK)
    connection = connected()
    connection.ping(b"abcdefgh")
    assert connection.data_to_send() == frames.ping(b"abcdefgh")
    assert feed_every_way(connected, frames.ping(b"abcdefgh", frames.ACK)).event == PingAcknowledged(b"abcdefgh")
    with pytest.raises(ProtocolError, match="8 bytes"):
        connection.ping(b"short")


@pytest.mark.parametrize(
    "first",
    [
        frames.ping(bytes(8)),
        ACKNOWLEDGED,
        frames.frame(0xBE, 0, 0),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 mail.example.com ESMTP\r\n",
    ],
)
def test_a_peer_that_does_not_begin_with_settings_is_told_so(first: bytes) -> None:
    connection = ClientConnection()
    with pytest.raises(ProtocolError, match="does not speak HTTP/2") as caught:
        connection.receive(first)
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR


def test_a_peer_that_begins_with_goaway_is_quoted() -> None:
    with pytest.raises(ProtocolError, match=r"GOAWAY, code 11.*Shutdown"):
        ClientConnection().receive(frames.goaway(0, 11, b'{"reason":"Shutdown"}'))


def test_after_a_connection_error_there_is_no_room_and_receive_raises_on() -> None:
    connection = connected(streams=3)
    with pytest.raises(ProtocolError) as first:
        connection.receive(frames.window_update(0, 0))
    assert (connection.room, connection.open_streams) == (0, 0)
    kind, _, _, payload = cut(connection.data_to_send())[0]
    assert (kind, frames.read_goaway(payload)[:2]) == (frames.GOAWAY, (0, ErrorCode.PROTOCOL_ERROR))
    with pytest.raises(ProtocolError) as second:
        connection.receive(answer(1))
    assert first.value is second.value is connection.error
    assert connection.data_to_send() == b""


def test_answers_that_came_before_a_connection_error_are_not_lost() -> None:
    connection = connected(streams=3)
    assert connection.receive(answer(1) + answer(3) + frames.window_update(0, 0)) == [
        Response(1, 200, OK, b""),
        Response(3, 200, OK, b""),
    ]
    assert connection.error is not None
    assert connection.room == 0
    with pytest.raises(ProtocolError):
        connection.receive(b"")


BEGUN = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, OK)
OPEN_BLOCK = frames.frame(frames.HEADERS, 0, 1, OK)


@pytest.mark.parametrize(
    ("start", "flood"),
    [
        (b"", frames.ping(bytes(8))),
        (b"", setting(max_concurrent_streams=5)),
        (BEGUN, data(1, b"")),
        (OPEN_BLOCK, frames.frame(frames.CONTINUATION, 0, 1, b"")),
        (OPEN_BLOCK, frames.frame(frames.CONTINUATION, 0, 1, b"x")),
    ],
    ids=["ping", "settings", "empty data", "empty continuation", "small continuation"],
)
def test_a_flood_ends_the_connection(start: bytes, flood: bytes) -> None:
    outcome = feed(connected(streams=1), [start + flood * 2_000])
    assert outcome.error == ErrorCode.ENHANCE_YOUR_CALM
    assert len(outcome.sent) < 20_000


def test_a_header_block_above_the_limit_ends_the_connection_before_it_is_whole() -> None:
    begin = frames.frame(frames.HEADERS, 0, 1, bytes(16_000))
    for size, error in ((384, None), (385, ErrorCode.ENHANCE_YOUR_CALM)):
        outcome = feed(connected(streams=1), [begin + frames.frame(frames.CONTINUATION, 0, 1, bytes(size))])
        assert outcome.error == error


@pytest.mark.parametrize(
    "piece",
    [
        frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x08\x03103"),
        frames.window_update(1, 1),
        frames.rst_stream(3, 8),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
        frames.frame(0xBE, 0, 0),
        ACKNOWLEDGED,
        frames.goaway(2**31 - 1, 0),
    ],
    ids=["interim response", "window update", "late reset", "priority", "unknown", "acknowledgement", "goaway"],
)
def test_frames_that_answer_nothing_end_the_connection_when_there_are_too_many(piece: bytes) -> None:
    connection = connected(streams=2)
    connection.receive(answer(3) + piece * 500)
    outcome = feed(connection, [piece * 500] * (2 * MAX_IDLE_FRAMES // 500 + 1))
    assert outcome.error == ErrorCode.ENHANCE_YOUR_CALM


def test_frames_between_answers_are_no_flood() -> None:
    connection = connected(streams=1)
    for _ in range(100):
        stream_id = connection.request(REQUEST, b"{}") if connection.room else 1
        for _ in range(10):
            connection.receive(frames.window_update(stream_id, 1) * (MAX_IDLE_FRAMES // 20))
        assert connection.receive(answer(stream_id))
    assert connection.error is None


def test_many_pings_over_time_are_no_flood() -> None:
    connection = connected()
    for _ in range(5_000):
        assert feed(connection, [frames.ping(bytes(8))]).error is None


@pytest.mark.parametrize(
    "flood",
    [
        lambda turn: frames.rst_stream(1, 8) * 200,
        lambda turn: frames.window_update(5, 1) * 200,
        lambda turn: frames.window_update(1, 0) * 200,
        lambda turn: frames.frame(frames.PRIORITY, 0, 99, bytes(5)) * 200,
        lambda turn: frames.frame(0xBE, 0, 1, b"junk") * 200,
        lambda turn: ACKNOWLEDGED * 200,
        lambda turn: data(1, bytes(10_000)),
        lambda turn: answer(1) * 200,
        lambda turn: frames.headers(1, bytes(10_000), 0, 1000),
        lambda turn: setting(initial_window_size=turn) * 10,
        lambda turn: frames.goaway(2**31 - 1 - turn, 0, bytes(10_000)),
        lambda turn: data(3, b"x"),
        lambda turn: frames.frame(frames.HEADERS, frames.END_HEADERS, 5, b"\x08\x03103"),
    ],
)
def test_no_flood_makes_memory_grow(flood: Callable[[int], bytes]) -> None:
    connection = connected(streams=5)
    connection.receive(frames.rst_stream(1, 0) + frames.frame(frames.HEADERS, frames.END_HEADERS, 3, OK))

    def run(turns: range) -> None:
        for turn in turns:
            connection.receive(flood(turn))
            connection.data_to_send()

    run(range(10))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run(range(10, 70))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert connection.error is None
    assert after - before < 30_000
