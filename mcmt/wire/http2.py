"""An HTTP/2 client connection without I/O (RFC 9113): bytes in, events out, requests in, bytes out.

The caller writes ``data_to_send()`` to its transport, one write a burst, and hands what it reads to
``receive``. There is no clock, no coroutine, no future and no callback a stream: deadlines, retries and
matching an answer to its request by stream id are the caller's.

How it gets to about one microsecond of CPU for a request with its response (1,000 streams in flight, bodies of
200 bytes, answers in reads of 64 KB; 2.5 when the answer has a body): prepared header blocks, answers recognised by
their first bytes (header_block.py), no object for a stream whose answer fits one frame (stream.py), frames
cut from one buffer a read, one join a burst. Each is explained where it is done.

What is checked of a response: its framing, and that its block begins with a status. A later field that is
wrong is met when somebody decodes the block; content-length is not compared with the body.

Bounds: a body of 64 KB a stream, a header block of 16 KB in at most 16 frames, 1,000 queued replies, 20,000 frames
while no stream ends, ``max_streams`` streams. Past one, the stream or the connection ends; memory does not grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.events import Event, GoAway, PingAcknowledged, Response, SettingsChanged, StreamReset
from mcmt.wire.frames import ACK, END_HEADERS, END_STREAM, HEAD, HEADERS, LIMIT, MAX_31, ErrorCode
from mcmt.wire.header_block import INDEXED_STATUS, MAX_HEADER_LIST, decode_headers
from mcmt.wire.inbound import STREAM_WINDOW, Inbound
from mcmt.wire.outbound import CONNECTION_WINDOW
from mcmt.wire.settings import PeerSettings, changed

__all__ = [
    "ClientConnection",
    "ErrorCode",
    "Event",
    "GoAway",
    "PeerSettings",
    "PingAcknowledged",
    "Response",
    "SettingsChanged",
    "StreamReset",
    "decode_headers",
]

MAX_IDLE_FRAMES: Final = 20_000
"""Frames that may come while no stream ends: 20 for each of 1,000 streams, where a server in good faith needs 4."""

_unpack = HEAD.unpack_from
_WHOLE: Final = END_HEADERS | END_STREAM


class ClientConnection(Inbound):
    """One connection, from its preface to its end. *max_streams* caps what a peer without a limit allows."""

    def __init__(self, max_streams: int = 1_000) -> None:
        super().__init__(max_streams)
        self.error: ProtocolError | None = None
        """The connection error that ended this, if one did; ``receive`` raises it from then on."""
        self._rest = bytearray()
        self._wanted = 0
        self._greeted = False
        self._last_stream_id = MAX_31
        self._windows_moved = False
        self._idle_frames = 0
        self._ended_streams = 0
        self._out += (
            frames.PREFACE,
            frames.settings(
                (
                    (frames.HEADER_TABLE_SIZE, 0),
                    (frames.ENABLE_PUSH, 0),
                    (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
                    (frames.MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
                )
            ),
            frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW),
        )

    @property
    def unfinished(self) -> bytes:
        """What has come of a frame that is not whole yet."""
        return bytes(self._rest)

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes completed, in the order in which it came. Afterwards there may be bytes to send.

        Raises ProtocolError on a connection error, with GOAWAY queued. If events were completed before it, they
        are returned first: ``error`` is set then, ``room`` is 0, and the next call raises. So an answer that
        arrived is never lost to what came behind it, and how the bytes were split makes no difference.
        """
        if self.error is not None:
            raise self.error
        if self._rest:
            # Appended in place and looked at only when the frame is whole: a peer that sends byte by byte
            # costs no more than its bytes.
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        events: list[Event] = []
        try:
            used = self._cut(data, events)
            if self._idle_frames > MAX_IDLE_FRAMES:
                self._look_for_progress()
        except ProtocolError as error:
            self.error = error
            self._open.clear()
            self._waiting.clear()
            self._end(error.code, str(error).encode()[:128])
            if events:
                return events
            raise
        if used < len(data):
            self._rest += memoryview(data)[used:]
        if self._windows_moved:
            # Once a read, not once a frame: a thousand WINDOW_UPDATEs make one walk over the waiting bodies.
            self._windows_moved = False
            self._send_waiting()
        return events

    def _cut(self, data: bytes, events: list[Event]) -> int:
        """Take whole frames off *data*; return how much they were."""
        streams = self._open
        size = len(data)
        start = 9
        # Offsets into the one buffer that was read; only what is kept is copied out of it.
        while start <= size:
            word, flags, stream_id = _unpack(data, start - 9)
            end = start + (word >> 8)
            if end > size or word > LIMIT:
                if word > LIMIT:
                    raise self._oversized(data[start - 9 :])
                self._wanted = end - start + 9
                return start - 9
            # The usual answer: a whole 200 in one HEADERS frame, to a request that is sent whole. Recognised by type,
            # flags, the first byte of its block and an int in the table; no call but those of the dict and the
            # event: 0.35 us. By the way of the other frames it is 0.75 us.
            if (
                word & 0xFF == HEADERS
                and flags == _WHOLE
                and (status := INDEXED_STATUS.get(data[start : start + 1])) is not None
                and end > start
                and type(streams.get(stream_id)) is int
                and not self._block_stream
            ):
                del streams[stream_id]
                events.append(Response(stream_id, status, data[start:end], b""))
            else:
                self._take(word & 0xFF, flags, stream_id & MAX_31, data[start:end], events)
            start = end + 9
        self._wanted = 9
        return start - 9

    def _look_for_progress(self) -> None:
        # 10.5: frames that are each in order cost time all the same. Counted off the way of the usual answer, and
        # looked at once in so many frames.
        ended = self._next_id // 2 - len(self._open)
        if ended == self._ended_streams:
            raise ProtocolError("the peer floods us with frames that answer nothing", ErrorCode.ENHANCE_YOUR_CALM)
        self._ended_streams, self._idle_frames = ended, 0

    def _oversized(self, data: bytes) -> ProtocolError:
        if not self._greeted:
            return ProtocolError(f"the peer does not speak HTTP/2; it began with {data[:24]!r}")
        return ProtocolError("frame longer than MAX_FRAME_SIZE", ErrorCode.FRAME_SIZE_ERROR)

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        # 3.4: the server's preface is a SETTINGS frame.
        if not self._greeted and (kind != frames.SETTINGS or flags & ACK):
            if kind == frames.GOAWAY and len(payload) >= 8:
                # Whoever reads the error wants to know what the peer had to say.
                _, code, debug = frames.read_goaway(payload)
                raise ProtocolError(f"the peer says GOAWAY, code {code}, {debug[:200]!r},")
            raise ProtocolError(f"the peer does not speak HTTP/2; its first frame is of type {kind}")
        # 6.10: a header block is not interrupted.
        if self._block_stream and (kind != frames.CONTINUATION or stream_id != self._block_stream):
            raise ProtocolError("another frame inside a header block")
        self._idle_frames += 1
        frames.check(kind, stream_id, len(payload))
        if kind >= len(_HANDLERS):
            return  # 5.5: unknown types are ignored
        # 5.1.1: even ids are the server's to open, which ENABLE_PUSH 0 forbids; PRIORITY may name any.
        if stream_id and (stream_id >= self._next_id or not stream_id & 1) and kind != frames.PRIORITY:
            raise ProtocolError(f"frame of type {kind} on idle stream {stream_id}")
        _HANDLERS[kind](self, flags, stream_id, payload, events)

    def _ignore(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        """PRIORITY: deprecated (5.3.2), and never about our sending."""

    def _settings(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:  # noqa: ARG002 - a handler
        pairs = frames.read_settings(flags, payload)
        if flags & ACK:
            return
        self._greeted = True
        table_sizes = [value for identifier, value in pairs if identifier == frames.HEADER_TABLE_SIZE]
        self._apply(changed(self.peer_settings, pairs), min(table_sizes, default=None))
        # 6.5.3: acknowledged as soon as they are in force.
        self._reply(frames.frame(frames.SETTINGS, ACK, 0))
        self._windows_moved = True
        events.append(SettingsChanged(self.peer_settings.max_concurrent_streams))

    def _push_promise(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:  # noqa: ARG002 - a handler
        # 8.4: we set ENABLE_PUSH to 0.
        raise ProtocolError("PUSH_PROMISE, though push is off")

    def _ping(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:  # noqa: ARG002 - a handler
        if flags & ACK:
            events.append(PingAcknowledged(payload))
        else:
            self._reply(frames.ping(payload, ACK))

    def _goaway(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:  # noqa: ARG002 - a handler
        last_stream_id, code, debug = frames.read_goaway(payload)
        # 6.8: a later one must not name a higher stream; those above were given up already.
        self._last_stream_id = min(self._last_stream_id, last_stream_id)
        self._take_no_more()
        # Ids only grow, so the table is in their order and the ones to forget stand at its end.
        while self._open and (newest := next(reversed(self._open))) > self._last_stream_id:
            self._forget(newest)
        events.append(GoAway(self._last_stream_id, code, debug))

    def _window_update(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:  # noqa: ARG002 - a handler
        increment = frames.read_u32(payload) & MAX_31
        if not stream_id:
            # 6.9: an increment of 0 is an error of what it names, here the connection.
            if not increment:
                raise ProtocolError("WINDOW_UPDATE of 0")
            self._window += increment
            if self._window > MAX_31:
                raise ProtocolError("WINDOW_UPDATE overflows the connection's window", ErrorCode.FLOW_CONTROL_ERROR)
            self._windows_moved = True
            return None
        stream = self._open.get(stream_id)
        if stream is None:
            return None
        if not increment:
            return self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0", events)
        charged = (stream if isinstance(stream, int) else stream.charged) - increment
        if self.peer_settings.initial_window_size - charged > MAX_31:
            # 6.9.1
            return self._refuse(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "WINDOW_UPDATE overflows the window", events)
        if charged < 0:
            self._over_credited = True
        if isinstance(stream, int):
            self._open[stream_id] = charged
        else:
            stream.charged = charged
            self._windows_moved = True
        return None


_Handler = Callable[[ClientConnection, int, int, bytes, "list[Event]"], None]
# By frame type, RFC 9113 sections 6.1 to 6.10. Functions, not bound methods: no cycle through each connection.
_HANDLERS: Final[tuple[_Handler, ...]] = (
    ClientConnection._data,
    ClientConnection._headers,
    ClientConnection._ignore,
    ClientConnection._rst_stream,
    ClientConnection._settings,
    ClientConnection._push_promise,
    ClientConnection._ping,
    ClientConnection._goaway,
    ClientConnection._window_update,
    ClientConnection._continuation,
)
