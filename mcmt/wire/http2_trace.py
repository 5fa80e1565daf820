"""What an HTTP/2 connection says, frame by frame, for whoever watches it (trace.py).

It reads the bytes beside the codec, so that the codec has no part in it and what is shown is what was on the wire.
Rules: what it cannot read it tells as such; it never raises and changes nothing. While no watch has room, frames are
counted and not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.frames import ACK, END_HEADERS, END_STREAM, HEAD, MAX_31, PADDED, PREFACE, ErrorCode
from mcmt.wire.header_block import decode_headers
from mcmt.wire.trace import Trace, Way

NAMES: Final = (
    *("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS"),
    *("PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"),
)
"""Types of frames, by number (RFC 9113 6)."""
SETTINGS: Final[Mapping[int, str]] = MappingProxyType(
    {
        frames.HEADER_TABLE_SIZE: "HEADER_TABLE_SIZE",
        frames.ENABLE_PUSH: "ENABLE_PUSH",
        frames.MAX_CONCURRENT_STREAMS: "MAX_CONCURRENT_STREAMS",
        frames.INITIAL_WINDOW_SIZE: "INITIAL_WINDOW_SIZE",
        frames.MAX_FRAME_SIZE: "MAX_FRAME_SIZE",
        frames.MAX_HEADER_LIST_SIZE: "MAX_HEADER_LIST_SIZE",
    }
)
_HEAD = 9


class _Frame(NamedTuple):
    way: Way
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def name(self) -> str:
        return NAMES[self.kind] if self.kind < len(NAMES) else f"frame of type {self.kind}"

    @property
    def ends(self) -> str:
        return "end" if self.flags & END_STREAM else ""

    @property
    def acknowledges(self) -> str:
        return "ack" if self.flags & ACK else ""


class Http2Trace:
    """One connection, both ways, from some moment on."""

    def __init__(self, trace: Trace, unfinished: bytes = b"") -> None:
        """*unfinished*: what had come at that moment of a frame that is not whole."""
        trace.protocol = "http2"
        self.trace = trace
        self._halves: Mapping[Way, _Half] = {"sent": _Half(), "received": _Half(unfinished)}

    def sent(self, data: bytes) -> None:
        """This is written to the peer."""
        self._take("sent", data)

    def received(self, data: bytes) -> None:
        """This has come from it."""
        self._take("received", data)

    def _take(self, way: Way, data: bytes) -> None:
        half, trace = self._halves[way], self.trace
        data = half.rest + data
        at = 0
        if way == "sent" and data.startswith(PREFACE):
            trace.tell(way, "preface")
            at = len(PREFACE)
        while len(data) - at >= _HEAD:
            word, flags, stream = HEAD.unpack_from(data, at)
            end = at + _HEAD + (word >> 8)
            if end > len(data):
                break
            if trace.has_room:
                self._show(half, _Frame(way, word & 0xFF, flags, stream & MAX_31, data[at + _HEAD : end]))
            else:
                trace.left_out(1)
            at = end
        half.rest = data[at:] if len(data) - at <= frames.LARGEST_FRAME_SIZE else b""

    def _show(self, half: _Half, frame: _Frame) -> None:
        try:
            if frame.kind in (frames.HEADERS, frames.CONTINUATION):
                self._headers(half, frame)
            else:
                _KINDS.get(frame.kind, _other)(self.trace, frame)
        except ProtocolError as error:
            told = f"cannot be read: {error}"
            self.trace.tell(frame.way, frame.name, told, stream=frame.stream, octets=len(frame.payload))

    def _headers(self, half: _Half, frame: _Frame) -> None:
        """A block may need several frames (6.10); it is told as one."""
        if frame.kind == frames.HEADERS:
            half.first, half.block = frame, frames.unpad(frame.flags, frame.payload)
        else:
            half.block += frame.payload
        if frame.flags & END_HEADERS and half.first is not None:
            block, first = half.block, half.first
            half.block, half.first = b"", None
            self.trace.tell(frame.way, "HEADERS", first.ends, stream=frame.stream, fields=decode_headers(block))


class _Half:
    """One direction: what is not whole yet."""

    def __init__(self, rest: bytes = b"") -> None:
        self.rest = rest
        self.block = b""
        self.first: _Frame | None = None


def _code(code: int) -> str:
    return ErrorCode(code).name if code in set(ErrorCode) else str(code)


def _number(payload: bytes) -> int:
    return frames.read_u32(payload[:4].rjust(4, b"\0"))


def _data(trace: Trace, frame: _Frame) -> None:
    body = frames.unpad(frame.flags & PADDED, frame.payload)
    # What a gateway answers with is a reason; what is sent to it is the message.
    public = frame.way == "received"
    trace.tell(frame.way, frame.name, frame.ends, stream=frame.stream, octets=len(body), body=body, public=public)


def _rst_stream(trace: Trace, frame: _Frame) -> None:
    trace.tell(frame.way, frame.name, _code(_number(frame.payload)), stream=frame.stream)


def _settings(trace: Trace, frame: _Frame) -> None:
    pairs = frames.read_settings(frame.flags, frame.payload)
    fields = [(SETTINGS.get(number, str(number)), str(value)) for number, value in pairs]
    trace.tell(frame.way, frame.name, frame.acknowledges, fields=fields)


def _ping(trace: Trace, frame: _Frame) -> None:
    trace.tell(frame.way, frame.name, frame.acknowledges)


def _goaway(trace: Trace, frame: _Frame) -> None:
    last, code, debug = frames.read_goaway(frame.payload.ljust(8, b"\0"))
    text = f"{_code(code)}, last stream {last}"
    trace.tell(frame.way, frame.name, text, octets=len(debug), body=debug, public=True)


def _window_update(trace: Trace, frame: _Frame) -> None:
    trace.tell(frame.way, frame.name, f"+{_number(frame.payload) & MAX_31}", stream=frame.stream)


def _other(trace: Trace, frame: _Frame) -> None:
    trace.tell(frame.way, frame.name, stream=frame.stream, octets=len(frame.payload))


_KINDS: Final[Mapping[int, Callable[[Trace, _Frame], None]]] = MappingProxyType(
    {
        frames.DATA: _data,
        frames.RST_STREAM: _rst_stream,
        frames.SETTINGS: _settings,
        frames.PING: _ping,
        frames.GOAWAY: _goaway,
        frames.WINDOW_UPDATE: _window_update,
    }
)
