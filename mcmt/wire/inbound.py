"""The part of an HTTP/2 client connection that turns the peer's frames about a stream into its answer.

Between ``Outbound`` (what we send) and ``ClientConnection`` (http2.py: cutting the bytes, frames about the
connection). A stream ends here with exactly one event: a Response or a StreamReset.
"""

from __future__ import annotations

from typing import Final

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.events import Event, Response, StreamReset
from mcmt.wire.frames import END_HEADERS, END_STREAM, PADDED, ErrorCode
from mcmt.wire.header_block import MAX_HEADER_LIST, StatusReader, decode_headers
from mcmt.wire.outbound import Outbound
from mcmt.wire.stream import Stream

MAX_BODY: Final = 65_536
"""Octets of DATA, padding counted, that a response may have."""
STREAM_WINDOW: Final = MAX_BODY + frames.DEFAULT_FRAME_SIZE
"""One frame more than MAX_BODY: a body that is too large is met and refused; with a smaller window it would stall."""
MAX_CONTINUATIONS: Final = 16
MAX_EMPTY_FRAMES: Final = 100
"""DATA frames without content that one stream may get before its end."""


class Inbound(Outbound):
    """Streams' frames: DATA, HEADERS, CONTINUATION, RST_STREAM."""

    def __init__(self, max_streams: int) -> None:
        super().__init__(max_streams)
        self._statuses = StatusReader()
        # A header block under way (section 6.10): its stream, 0 for none; then nothing else may come.
        self._block_stream = 0
        self._block_flags = 0
        self._block_frames = 0
        self._block = bytearray()

    def _data(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        # 6.9.1: the whole frame counts, padding too, whatever became of its stream.
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ProtocolError("DATA beyond the connection's window", ErrorCode.FLOW_CONTROL_ERROR)
        content = frames.unpad(flags & PADDED, payload)
        stream = self._open.get(stream_id)
        if stream is None:
            return None  # 5.1: what still comes for a closed stream is discarded
        if isinstance(stream, int) or not stream.status:
            return self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR, "DATA before HEADERS", events)
        stream.received += size
        if stream.received > MAX_BODY:
            return self._refuse(stream_id, ErrorCode.CANCEL, f"response body above {MAX_BODY} bytes", events)
        if not stream.content:
            stream.content = content
        elif content:
            if isinstance(stream.content, bytes):
                stream.content = bytearray(stream.content)
            stream.content += content
        if flags & END_STREAM:
            self._finish(stream_id, stream.status, stream.block, bytes(stream.content), events)
        elif not content:
            stream.empty_frames += 1
            if stream.empty_frames > MAX_EMPTY_FRAMES:
                raise ProtocolError("the peer floods us with empty DATA", ErrorCode.ENHANCE_YOUR_CALM)
        return None

    def _headers(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        fragment = frames.unpad(flags, payload)
        if flags & END_HEADERS:
            return self._header_block(stream_id, flags, fragment, events)
        self._block_stream = stream_id
        self._block_flags = flags
        self._block_frames = 0
        self._block += fragment
        return None

    def _continuation(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if not self._block_stream:
            raise ProtocolError("CONTINUATION without HEADERS")
        self._block += payload
        self._block_frames += 1
        # 10.5.1: a block without an end, of large or of empty frames.
        if len(self._block) > MAX_HEADER_LIST or self._block_frames > MAX_CONTINUATIONS:
            raise ProtocolError("header block without an end", ErrorCode.ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            block = bytes(self._block)
            self._block.clear()
            self._block_stream = 0
            self._header_block(stream_id, self._block_flags, block, events)

    def _header_block(self, stream_id: int, flags: int, block: bytes, events: list[Event]) -> None:
        stream = self._open.get(stream_id)
        if stream is None:
            return None  # 5.1; no table of ours depends on it
        ended = flags & END_STREAM
        if not isinstance(stream, int) and stream.status:
            # 8.1: a second block is the trailers, and ends the response.
            if not ended or any(name.startswith(":") for name, _ in decode_headers(block)):
                return self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR, "malformed trailers", events)
            return self._finish(stream_id, stream.status, stream.block, bytes(stream.content), events)
        status = self._statuses.read(block)
        if status >= 200:
            if ended:
                return self._finish(stream_id, status, block, b"", events)
            if isinstance(stream, int):
                stream = self._open[stream_id] = Stream(stream)
            stream.status = status
            stream.block = block
            return None
        # 8.1: any number of interim responses may come first; they do not end the stream, 101 is not in HTTP/2 (8.6).
        if ended or status in (0, 101):
            return self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR, "malformed response", events)
        return None

    def _finish(self, stream_id: int, status: int, block: bytes, body: bytes, events: list[Event]) -> None:
        # 8.1: an answer may come before the request is sent whole; the rest is not sent, and the stream has to be
        # closed from here, or it would count against the peer's limit.
        if stream_id in self._waiting:
            self.reset(stream_id)
        else:
            del self._open[stream_id]
        events.append(Response(stream_id, status, block, body))

    def _refuse(self, stream_id: int, code: int, reason: str, events: list[Event]) -> None:
        # 5.4.2: a stream error ends the stream, not the connection.
        self.reset(stream_id, code)
        events.append(StreamReset(stream_id, code, reason))

    def _rst_stream(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:  # noqa: ARG002 - a handler
        if self._forget(stream_id):
            events.append(StreamReset(stream_id, frames.read_u32(payload)))
