"""A peer made of raw frames: a connection past its greeting, and every way in which bytes may reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.header_block import indexed, literal
from mcmt.wire.http2 import ClientConnection, Event

REQUEST = indexed(":method", "POST") + indexed(":scheme", "https") + literal(":authority", "push.example.com")
REQUEST += literal(":path", "/3/device/00")
OK = b"\x88"
BAD_REQUEST = b"\x8c"
GONE = literal(":status", "410")
TRAILING = b"trailing"
WHOLE = frames.END_STREAM | frames.END_HEADERS


def setting(**values: int) -> bytes:
    """A SETTINGS frame: ``setting(max_concurrent_streams=1)``."""
    return frames.settings(tuple((getattr(frames, name.upper()), value) for name, value in values.items()))


def connected(streams: int = 0, body: bytes = b"", **settings: int) -> ClientConnection:
    """A connection whose peer has sent its SETTINGS, with *streams* requests sent; nothing is left to send."""
    connection = ClientConnection()
    connection.receive(setting(**settings))
    for _ in range(streams):
        connection.request(REQUEST, body)
    connection.data_to_send()
    return connection


def answer(stream_id: int, block: bytes = OK, body: bytes = b"") -> bytes:
    """A whole response."""
    if not body:
        return frames.frame(frames.HEADERS, WHOLE, stream_id, block)
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block) + data(stream_id, body, frames.END_STREAM)


def data(stream_id: int, content: bytes, flags: int = 0) -> bytes:
    return frames.frame(frames.DATA, flags, stream_id, content)


def cut(stream: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream id, payload) of every frame in what a client sent, after its preface if that is there."""
    stream = stream.removeprefix(frames.PREFACE)
    found = []
    while stream:
        word, flags, stream_id = frames.HEAD.unpack_from(stream)
        found.append((word & 0xFF, flags, stream_id, stream[9 : 9 + (word >> 8)]))
        stream = stream[9 + (word >> 8) :]
    return found


class Outcome(NamedTuple):
    """What became of bytes that were fed to a connection."""

    events: list[Event]
    error: int | None
    """Code of the connection error that they ended in."""
    sent: bytes

    @property
    def event(self) -> Event:
        """The only event."""
        (event,) = self.events
        return event


def feed(connection: ClientConnection, pieces: Iterable[bytes]) -> Outcome:
    """Hand *pieces* over one by one, as a transport would."""
    events: list[Event] = []
    sent = b""
    raised: ProtocolError | None = None
    for piece in pieces:
        try:
            events += connection.receive(piece)
        except ProtocolError as error:
            raised = error
        sent += connection.data_to_send()
        if raised is not None:
            break
    assert raised is None or raised is connection.error
    return Outcome(events, None if connection.error is None else connection.error.code, sent)


def feed_every_way(make: Callable[[], ClientConnection], stream: bytes) -> Outcome:
    """The outcome of *stream*: the same whole, byte by byte, split in two at the middle, and with frames behind it."""
    whole = feed(make(), [stream])
    single = feed(make(), [stream[i : i + 1] for i in range(len(stream))])
    halves = feed(make(), [stream[: len(stream) // 2], stream[len(stream) // 2 :]])
    behind = frames.frame(0xBE, 0xFF, 77, b"unknown") + frames.ping(TRAILING)
    followed = feed(make(), [stream + behind])
    for other in (single, halves, followed):
        assert (other.events, other.error) == (whole.events, whole.error)
    if whole.error is None:
        assert frames.ping(TRAILING, frames.ACK) in followed.sent
    else:
        kind, _, _, payload = cut(whole.sent)[-1]
        assert (kind, frames.read_goaway(payload)[1]) == (frames.GOAWAY, whole.error)
    return whole
