"""The HTTP/2 codec: frames as from a gateway, requests beside them; ProtocolError and nothing else.

Every request has exactly one outcome: an answer, a reset, given up by a GOAWAY below it, reset by us, or it is open.
What is kept is bounded, what is sent is whole frames within the windows, and how bytes are split changes no event.
"""

from __future__ import annotations

from contextlib import suppress

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.header_block import indexed, literal
from mcmt.wire.http2 import ClientConnection, Event, GoAway, Response, StreamReset, decode_headers
from tests.fuzz.octets import Octets, cut

LONGEST = 4096

_REQUEST = indexed(":method", "POST") + indexed(":scheme", "https") + literal(":path", "/3/device/00")
_BLOCKS = (b"\x88", b"\x8c", b"\x20\x88", literal(":status", "410"), literal(":status", "103"), b"\x88" + _REQUEST)
_MAX_STREAMS = 20


class _Peer:
    """One connection and what is known of it from outside."""

    def __init__(self, seed: int) -> None:
        self.connection = ClientConnection(_MAX_STREAMS)
        self.seed = seed
        self.events: list[Event] = []
        self.sent = b""
        self.requests: dict[int, int] = {}
        self.reset: set[int] = set()
        self.given = frames.DEFAULT_WINDOW
        self.received = 0
        self.broken = False
        self.raw = False
        """Octets came that were no frames of ours: what windows they gave is not counted."""

    def receive(self, data: bytes) -> None:
        for piece in cut(data, self.seed) if self.seed else [data]:
            if self.broken:
                return
            self.received += len(piece)
            try:
                self.events += self.connection.receive(piece)
            except ProtocolError as error:
                assert error is self.connection.error
                self.broken = True
            assert len(self.connection._rest) <= 9 + frames.DEFAULT_FRAME_SIZE
            assert len(self.connection._block) <= 3 * frames.DEFAULT_FRAME_SIZE

    def flush(self) -> None:
        self.sent += self.connection.data_to_send()

    def request(self, size: int) -> None:
        room = self.connection.room
        assert 0 <= room <= _MAX_STREAMS
        if room:
            stream_id = self.connection.request(_REQUEST, bytes(size))
            assert stream_id not in self.requests
            self.requests[stream_id] = size


def run(data: bytes) -> None:
    seed = Octets(data).number(2)
    whole, split = _play(data, 0), _play(data, seed)
    # A body may be given a window in the middle of a burst; which stream comes first then is no matter of the events.
    assert whole.events == split.events
    assert whole.connection.error is None or split.connection.error is not None
    for peer in (whole, split):
        _hold(peer)


def _play(data: bytes, seed: int) -> _Peer:
    octets = Octets(data)
    octets.number(2)
    peer = _Peer(seed)
    if octets.number() % 4:
        peer.receive(frames.settings(((frames.INITIAL_WINDOW_SIZE, octets.number(2)),)))
    while octets:
        match octets.number() % 12:
            case 0:
                peer.request(octets.number(2) % 2000)
            case 1:
                peer.flush()
            case 2:
                stream_id = octets.number() | 1
                if stream_id in peer.requests:
                    peer.reset.add(stream_id)
                    peer.connection.reset(stream_id)
            case 3:
                size = octets.number()
                _give(peer, frames.WINDOW_UPDATE, 0, octets.number(), octets.take(size))
            case 4:
                increment = octets.number(4)
                _give(peer, frames.WINDOW_UPDATE, 0, octets.number() % 16, increment.to_bytes(4, "big"))
            case 5:
                block = _BLOCKS[octets.number() % len(_BLOCKS)]
                _give(peer, frames.HEADERS, octets.number(), octets.number() % 48, block)
            case 6:
                _give(peer, frames.DATA, octets.number(), octets.number() % 48, bytes(octets.number(2)))
            case 7:
                _give(peer, frames.GOAWAY, 0, 0, bytes((0, 0, 0, octets.number())) + octets.take(8))
            case 8:
                pair = octets.number().to_bytes(2, "big") + octets.take(4)
                _give(peer, frames.SETTINGS, 0, 0, pair)
            case 9:
                kind = octets.number() % 12
                _give(peer, kind, octets.number(), octets.number() % 48, octets.take(octets.number()))
            case 10:
                for _ in range(octets.number()):
                    _give(peer, octets.number() % 2 * 6, 0, 0, bytes(8))
            case _:
                peer.raw = True
                peer.receive(octets.piece())
    peer.flush()
    return peer


def _give(peer: _Peer, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
    if kind == frames.WINDOW_UPDATE and not stream_id:
        peer.given += int.from_bytes(payload[:4], "big") & frames.MAX_31
    peer.receive(frames.frame(kind, flags, stream_id, payload))


def _hold(peer: _Peer) -> None:
    connection = peer.connection
    ended = [event.stream_id for event in peer.events if isinstance(event, Response | StreamReset)]
    assert len(ended) == len(set(ended)), ended
    assert not peer.reset & set(ended) or all(stream_id in peer.requests for stream_id in ended)
    assert set(ended) <= peer.requests.keys()
    last = min((event.last_stream_id for event in peer.events if isinstance(event, GoAway)), default=frames.MAX_31)
    if connection.error is None:
        open_ = {each for each in peer.requests if each <= last and each not in ended and each not in peer.reset}
        assert open_ == set(connection._open), (open_, connection._open)
    else:
        assert connection.room == connection.open_streams == 0
        assert connection.error.code in range(14)
    for event in peer.events:
        if isinstance(event, Response):
            assert 200 <= event.status <= 999
            assert len(event.body) <= 65_536
            with suppress(ProtocolError):  # a field behind the status may be wrong; whoever decodes it meets that
                assert decode_headers(event.block)
    # A burst of what wants an answer is bounded (MAX_REPLIES); the rest of what we say has what we asked for as its
    # reason, or what came.
    assert len(peer.sent) <= 4096 + sum(peer.requests.values()) + 200 * len(peer.requests) + 4 * peer.received
    _sent(peer)


def _sent(peer: _Peer) -> None:
    """All of it is frames, bodies are those of the requests, and within the window of the connection."""
    rest = peer.sent.removeprefix(frames.PREFACE)
    bodies = dict.fromkeys(peer.requests, 0)
    data = 0
    while rest:
        word, flags, stream_id = frames.HEAD.unpack_from(rest)
        size, kind = word >> 8, word & 0xFF
        assert len(rest) >= 9 + size
        frames.check(kind, stream_id, min(size, frames.DEFAULT_FRAME_SIZE))
        if kind == frames.DATA:
            data += size
            bodies[stream_id] += size
            assert (bodies[stream_id] == peer.requests[stream_id]) == bool(flags & frames.END_STREAM)
        rest = rest[9 + size :]
    assert data <= peer.given or peer.raw
