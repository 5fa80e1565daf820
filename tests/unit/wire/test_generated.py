"""Generated peers: however bytes are split, whatever they are, and whatever order a lawful peer does things in."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from mcmt.wire import frames
from mcmt.wire.header_block import literal
from mcmt.wire.http2 import ClientConnection, GoAway, Response, SettingsChanged, StreamReset

from .pair import ConnectionPair
from .peer import BAD_REQUEST, GONE, OK, REQUEST, answer, connected, data, feed, setting

STREAMS = st.sampled_from([1, 3, 5, 7, 9])
BLOCKS = st.sampled_from([OK, BAD_REQUEST, GONE, b"\x20" + OK, OK + literal("apns-id", "x"), literal(":status", "103")])


def frame(kind: int, *, flags: st.SearchStrategy[int], sid: st.SearchStrategy[int], payload: st.SearchStrategy[bytes]):  # type: ignore[no-untyped-def]
    return st.builds(frames.frame, st.just(kind), flags, sid, payload)


# What a peer may well send, and what none should: about as much of each.
LAWFUL = st.one_of(
    st.builds(answer, STREAMS, BLOCKS, st.binary(max_size=40)),
    st.builds(frames.headers, STREAMS, BLOCKS, st.sampled_from([0, 1]), st.integers(1, 20)),
    st.builds(data, STREAMS, st.binary(max_size=40), st.sampled_from([0, 1])),
    st.builds(frames.rst_stream, STREAMS, st.integers(0, 14)),
    st.builds(frames.ping, st.binary(min_size=8, max_size=8), st.sampled_from([0, 1])),
    st.builds(lambda limit: setting(max_concurrent_streams=limit), st.integers(0, 2000)),
    st.builds(lambda window: setting(initial_window_size=window), st.integers(0, 2**31 - 1)),
    st.builds(frames.window_update, st.one_of(st.just(0), STREAMS), st.integers(0, 2**20)),
    st.builds(frames.goaway, st.integers(0, 12), st.integers(0, 14), st.binary(max_size=30)),
)
ANY = frame(
    0,
    flags=st.integers(0, 255),
    sid=st.one_of(STREAMS, st.integers(0, 2**32 - 1)),
    payload=st.binary(max_size=60),
).flatmap(lambda built: st.integers(0, 12).map(lambda kind: built[:3] + bytes([kind]) + built[4:]))
STREAM = st.lists(st.one_of(LAWFUL, LAWFUL, ANY), max_size=12).map(b"".join)


def five() -> ClientConnection:
    """Five streams: sent whole, half sent, not sent at all."""
    connection = connected(initial_window_size=100)
    for size in (10, 100, 300, 300, 0):
        connection.request(REQUEST, bytes(size))
    connection.data_to_send()
    return connection


@settings(max_examples=150, deadline=None)
@given(STREAM, st.data())
def test_any_split_of_the_bytes_gives_the_same_events(stream: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    edges = [0, *cuts, len(stream)]
    whole = feed(five(), [stream])
    split = feed(five(), [stream[a:b] for a, b in itertools.pairwise(edges)])
    assert (split.events, split.error) == (whole.events, whole.error)


@settings(max_examples=150, deadline=None)
@given(STREAM)
def test_a_stream_has_one_event_at_most_and_its_slot_is_free_then(stream: bytes) -> None:
    connection = five()
    outcome = feed(connection, [stream])
    ended = [event.stream_id for event in outcome.events if isinstance(event, Response | StreamReset)]
    assert len(ended) == len(set(ended))
    assert set(ended) <= {1, 3, 5, 7, 9}
    lowest = min((event.last_stream_id for event in outcome.events if isinstance(event, GoAway)), default=2**31)
    limits = [event.max_concurrent_streams for event in outcome.events if isinstance(event, SettingsChanged)]
    assert connection.room >= 0
    if connection.error is not None or lowest < 2**31:
        assert connection.room == 0
    elif limits and connection.room:
        assert connection.room + connection.open_streams == min(limits[-1], 1000)
    if connection.error is None:
        assert connection.open_streams == len([sid for sid in (1, 3, 5, 7, 9) if sid not in ended and sid <= lowest])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_random_bytes_raise_nothing_but_a_protocol_error_and_are_not_kept(pieces: list[bytes], greeted: bool) -> None:
    connection = five() if greeted else ClientConnection()
    outcome = feed(connection, pieces)  # feed lets every other exception through
    assert len(connection._rest) <= 9 + 16_384
    assert len(connection._block) <= 2 * 16_384
    assert len(outcome.sent) <= 20_000


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY, max_size=20))
def test_random_frames_raise_nothing_but_a_protocol_error(pieces: list[bytes]) -> None:
    outcome = feed(five(), pieces)
    assert outcome.error is None or 0 < outcome.error <= 13


class LawfulPeer:
    """h2 as a peer that opens, shuts and moves every window and limit; it raises when we break one."""

    def __init__(self, limit: int, window: int) -> None:
        self.bodies: dict[int, bytes] = {}
        self.given_up: set[int] = set()
        self.pair = ConnectionPair(chunk=100, max_concurrent_streams=limit, initial_window_size=window)

    def request(self, number: int, size: int) -> None:
        for _ in range(number):
            if self.pair.client.room:
                body = bytes([size % 251]) * size
                self.bodies[self.pair.client.request(REQUEST, body)] = body

    def limit(self, number: int, size: int) -> None:
        self.pair.set(max_concurrent_streams=number)

    def window(self, number: int, size: int) -> None:
        # h2 as a receiver cannot hold a window below zero: it may only shrink while no stream is open.
        self.carry(0, 0)
        if size >= self.pair.peer.local_settings.initial_window_size or not self.pair.peer.open_inbound_streams:
            self.pair.set(initial_window_size=size)

    def open_connection(self, number: int, size: int) -> None:
        self.pair.peer.increment_flow_control_window(size + 1)

    def open_stream(self, number: int, size: int) -> None:
        unfinished = [sid for sid in self.pair.headers if self.pair.client.unsent(sid)]
        if unfinished:
            self.pair.peer.increment_flow_control_window(size + 1, unfinished[number % len(unfinished)])

    def answer(self, number: int, size: int) -> None:
        for stream_id in self.pair.ended[:number]:
            self.pair.answer(stream_id, (200, 400, 410, 503)[number % 4], bytes(size % 50), size % 20)
            self.pair.ended.remove(stream_id)

    def reset(self, number: int, size: int) -> None:
        self.carry(0, 0)
        alive = [sid for sid in self.bodies if sid in self.pair.client._open]
        for stream_id in alive[number : number + 2]:
            self.pair.client.reset(stream_id)
            self.given_up.add(stream_id)
            if stream_id in self.pair.ended:
                self.pair.ended.remove(stream_id)
        self.carry(0, 0)

    def carry(self, number: int, size: int) -> None:
        self.pair.exchange(give_back=False)

    def finish(self) -> None:
        """Open everything and answer everything."""
        self.carry(0, 0)
        self.pair.set(initial_window_size=1 << 20)
        self.pair.peer.increment_flow_control_window(1 << 24)
        self.pair.exchange()
        self.pair.answer_all()


STEPS = st.tuples(
    st.sampled_from(
        ["request", "request", "limit", "window", "open_connection", "open_stream", "answer", "carry", "carry", "reset"]
    ),
    st.integers(0, 12),
    st.integers(0, 20_000),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 20), st.integers(0, 300), st.lists(STEPS, min_size=10, max_size=60))
def test_with_a_lawful_peer_every_body_arrives_whole_and_every_stream_ends_once(
    limit: int, window: int, steps: list[tuple[str, int, int]]
) -> None:
    peer = LawfulPeer(limit, window)
    for name, number, size in steps:
        getattr(peer, name)(number, size)
        assert peer.pair.client.room >= 0
    peer.finish()
    ended = [event.stream_id for event in peer.pair.events if isinstance(event, Response | StreamReset)]
    assert sorted(ended) == sorted(set(peer.bodies) - peer.given_up)
    for stream_id in ended:
        assert peer.pair.bodies[stream_id] == peer.bodies[stream_id]
    assert peer.pair.client.open_streams == 0
