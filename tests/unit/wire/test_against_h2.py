"""With python h2 as the peer: hundreds of streams in flight through everything that a gateway may do."""

from __future__ import annotations

import pytest

from mcmt.wire import frames
from mcmt.wire.frames import ErrorCode
from mcmt.wire.header_block import indexed, literal
from mcmt.wire.http2 import GoAway, PingAcknowledged, Response, SettingsChanged, StreamReset, decode_headers

from .pair import ConnectionPair

BASE = indexed(":method", "POST") + indexed(":scheme", "https") + literal(":authority", "push.example.com")
TOKEN = literal("authorization", "bearer " + "x" * 180, never_indexed=True)


def block(number: int) -> bytes:
    return BASE + literal(":path", f"/3/device/{number:064x}") + TOKEN


def fill(pair: ConnectionPair, bodies: dict[int, bytes], size: int = 200, most: int = 1_000_000) -> int:
    """Send requests while there is room; note their bodies by stream."""
    count = 0
    while pair.client.room and count < most:
        number = len(bodies)
        body = (b"%d|" % number).ljust(size, b"x")
        bodies[pair.client.request(block(number), body)] = body
        count += 1
    return count


@pytest.mark.parametrize("chunk", [65_536, 777])
def test_six_hundred_requests_in_flight_arrive_whole_and_are_answered_once(chunk: int) -> None:
    pair = ConnectionPair(chunk=chunk, max_concurrent_streams=600)
    bodies: dict[int, bytes] = {}
    answered: list[Response] = []
    while len(bodies) < 1800:
        fill(pair, bodies)
        pair.exchange()
        if pair.client.room == 0 or len(bodies) == 1800:
            answered += pair.answer_all()
    assert pair.most_open == 600
    assert pair.bodies == bodies
    assert sorted(response.stream_id for response in answered) == sorted(bodies)
    for response in answered:
        assert decode_headers(response.block) == ((":status", "200"), ("apns-id", f"id-{response.stream_id}"))
    fields = dict(pair.headers[1])
    assert fields[":path"] == f"/3/device/{0:064x}"
    assert fields["authorization"] == "bearer " + "x" * 180


def test_a_limit_that_drops_to_one_and_returns_is_never_passed() -> None:
    pair = ConnectionPair(max_concurrent_streams=1000, initial_window_size=1 << 20)
    bodies: dict[int, bytes] = {}
    fill(pair, bodies, 100, 500)
    pair.exchange()
    pair.set(max_concurrent_streams=1)
    pair.exchange()
    assert SettingsChanged(1) in pair.events
    while pair.client.open_streams:
        # h2 raises TooManyStreamsError for a stream above the limit that we acknowledged.
        assert fill(pair, bodies) == 0
        pair.answer(pair.ended.pop(0))
        pair.exchange()
    for _ in range(5):
        assert fill(pair, bodies) == 1
        pair.exchange()
        assert len(pair.answer_all()) == 1
    pair.set(max_concurrent_streams=1000)
    pair.exchange()
    assert fill(pair, bodies, 10) == 1000
    pair.exchange()
    assert len(pair.answer_all()) == 1000
    assert pair.bodies == bodies


def test_bodies_wait_for_zero_windows_and_all_arrive_when_they_open() -> None:
    pair = ConnectionPair(max_concurrent_streams=600, initial_window_size=0)
    bodies: dict[int, bytes] = {}
    fill(pair, bodies, 300)
    pair.exchange()
    assert len(pair.headers) == 600
    assert not any(pair.bodies.values())
    pair.set(initial_window_size=100)
    pair.exchange(give_back=False)
    assert sum(map(len, pair.bodies.values())) == 600 * 100
    pair.set(initial_window_size=65_535)
    pair.exchange(give_back=False)
    # The connection's window holds now: 65,535 octets were never given back.
    assert sum(map(len, pair.bodies.values())) == 65_535
    assert pair.client.room == 0
    pair.peer.increment_flow_control_window(1 << 20)
    pair.exchange()
    assert pair.bodies == bodies
    assert len(pair.answer_all()) == 600


def test_a_peer_that_never_opens_its_window_gets_no_octet_too_many() -> None:
    pair = ConnectionPair(max_concurrent_streams=1000)
    bodies: dict[int, bytes] = {}
    fill(pair, bodies, 4000)
    pair.exchange(give_back=False)
    assert sum(map(len, pair.bodies.values())) == 65_535
    assert len(bodies) == 17  # no more is taken than fills the window
    assert [stream_id for stream_id in bodies if pair.client.unsent(stream_id)] == [33]


def test_goaway_in_mid_flight_splits_the_streams_at_its_number() -> None:
    pair = ConnectionPair(max_concurrent_streams=600)
    bodies: dict[int, bytes] = {}
    fill(pair, bodies, 100, 600)
    pair.exchange()
    last = 2 * 300 - 1
    events = pair.client.receive(frames.goaway(last, 0, b'{"reason":"Shutdown"}'))
    assert events == [GoAway(last, 0, b'{"reason":"Shutdown"}')]
    assert (pair.client.room, pair.client.open_streams) == (0, 300)
    assert {response.stream_id for response in pair.answer_all()} == set(range(1, last + 1, 2))
    assert pair.client.open_streams == 0


@pytest.mark.parametrize("padding", [None, 0, 1, 255])
def test_error_bodies_with_padding_over_and_over(padding: int | None) -> None:
    pair = ConnectionPair(max_concurrent_streams=500)
    body = b'{"reason":"BadDeviceToken"}'
    answers = 0
    for _ in range(6):
        bodies: dict[int, bytes] = {}
        fill(pair, bodies, 10, 500)
        pair.exchange()
        for stream_id in bodies:
            pair.answer(stream_id, 410, body, padding)
        for event in pair.exchange():
            assert isinstance(event, Response)
            assert (event.status, event.body) == (410, body)
            answers += 1
    assert answers == 3000


def test_interim_responses_continuations_and_trailers_around_one_body() -> None:
    pair = ConnectionPair(chunk=13)
    pair.client.request(block(0), b"{}")
    pair.exchange()
    pair.peer.streams[1].max_outbound_frame_size = 20  # makes h2 cut header blocks
    pair.peer.send_headers(1, [(":status", "103"), ("link", "</a>; rel=preload")])
    pair.peer.send_headers(1, [(":status", "400"), ("x", "y" * 200)])
    pair.peer.send_data(1, b'{"reason":')
    pair.peer.send_data(1, b'"BadTopic"}')
    pair.peer.send_headers(1, [("checksum", "0" * 100)], end_stream=True)
    (event,) = pair.exchange()
    assert isinstance(event, Response)
    assert (event.status, event.body) == (400, b'{"reason":"BadTopic"}')
    assert dict(decode_headers(event.block))["x"] == "y" * 200


def test_a_request_block_of_several_frames_is_read_by_the_peer() -> None:
    pair = ConnectionPair()
    stream_id = pair.client.request(BASE + literal(":path", "/") + literal("x", "y" * 40_000), b"{}")
    pair.exchange()
    assert dict(pair.headers[stream_id])["x"] == "y" * 40_000
    assert len(pair.answer_all()) == 1


def test_a_peer_without_a_header_table_can_read_us() -> None:
    # h2 raises unless the first block says that our table is smaller.
    pair = ConnectionPair(header_table_size=0)
    for number in range(3):
        pair.client.request(block(number), b"{}")
    pair.exchange()
    pair.set(header_table_size=4096)
    pair.exchange()
    pair.set(header_table_size=100)
    pair.exchange()
    pair.client.request(block(3), b"{}")
    pair.exchange()
    assert len(pair.answer_all()) == 4


def test_an_answer_before_the_body_and_a_reset_with_no_error_leave_the_answer() -> None:
    pair = ConnectionPair(max_concurrent_streams=500, initial_window_size=50)
    for number in range(500):
        pair.client.request(block(number), b"x" * 100)
    pair.exchange(give_back=False)
    assert all(pair.client.unsent(stream_id) for stream_id in pair.headers)
    for stream_id in list(pair.headers):
        pair.answer(stream_id, 413)
        pair.peer.reset_stream(stream_id, ErrorCode.NO_ERROR)
    events = pair.exchange(give_back=False)
    assert [(event.stream_id, event.status) for event in events if isinstance(event, Response)] == [
        (stream_id, 413) for stream_id in pair.headers
    ]
    assert len(events) == 500
    assert pair.client.room == 500
    pair.set(initial_window_size=1000)
    pair.exchange()
    assert sum(map(len, pair.bodies.values())) == 500 * 50


def test_streams_that_the_peer_resets_and_we_reset_end_once_and_leave_room() -> None:
    pair = ConnectionPair(max_concurrent_streams=600)
    bodies: dict[int, bytes] = {}
    fill(pair, bodies, 50, 600)
    pair.exchange()
    ours, theirs = list(bodies)[:200], list(bodies)[200:400]
    for stream_id in ours:
        pair.client.reset(stream_id)
        pair.ended.remove(stream_id)
    for stream_id in ours[:100]:
        pair.answer(stream_id)  # crosses our reset
    for stream_id in theirs:
        pair.peer.reset_stream(stream_id, ErrorCode.REFUSED_STREAM)
        pair.ended.remove(stream_id)
    assert pair.exchange() == [StreamReset(stream_id, ErrorCode.REFUSED_STREAM) for stream_id in theirs]
    assert set(pair.resets) == set(ours[100:])
    assert {response.stream_id for response in pair.answer_all()} == set(list(bodies)[400:])
    assert pair.client.room == 600


def test_pings_in_both_directions() -> None:
    pair = ConnectionPair()
    pair.client.ping(b"12345678")
    pair.peer.ping(b"abcdefgh")
    assert pair.exchange() == [PingAcknowledged(b"12345678")]


def test_our_goaway_is_understood() -> None:
    pair = ConnectionPair()
    pair.client.request(block(0), b"{}")
    pair.exchange()
    pair.client.close()
    received = pair.peer.receive_data(pair.client.data_to_send())
    assert [type(event).__name__ for event in received] == ["ConnectionTerminated"]
