"""HTTP/2 frames (RFC 9113 sections 4, 6 and 7): their numbers, how they are built, what makes one valid.

Pure functions over bytes; no connection and no stream state. ``check`` and the readers raise
ProtocolError with the code that the RFC names. The two layouts of the hot path, HEAD and LIMIT, are
exported so that the connection can use them without a call.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from mcmt.errors import ProtocolError

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_31: Final = 0x7FFFFFFF
"""Largest stream id, window and increment."""
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_SIZE: Final = 16_384
LARGEST_FRAME_SIZE: Final = 16_777_215


class ErrorCode(IntEnum):
    """RFC 9113 section 7. A peer may send numbers that are not listed; they are kept as they are."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


# A frame's header is 24 bits of length, 8 of type, 8 of flags, 32 of stream. Read as one word of 32 bits
# the first two cost no more than the type alone (length = word >> 8, type = word & 255): one unpack, three
# numbers, no slicing.
HEAD: Final = Struct(">IBI")
LIMIT: Final = DEFAULT_FRAME_SIZE << 8 | 0xFF
"""A header word above this announces a frame longer than we allow (we leave MAX_FRAME_SIZE at 16,384)."""

_U32: Final = Struct(">I")
_GOAWAY: Final = Struct(">II")
_SETTING: Final = Struct(">HI")

_ANY, _CONNECTION, _STREAM = 0, 1, 2
# type: (name, shortest and longest payload, which stream it belongs to), RFC 9113 sections 6.1 to 6.10
_RULES: Final = (
    ("DATA", 0, DEFAULT_FRAME_SIZE, _STREAM),
    ("HEADERS", 0, DEFAULT_FRAME_SIZE, _STREAM),
    ("PRIORITY", 5, 5, _STREAM),
    ("RST_STREAM", 4, 4, _STREAM),
    ("SETTINGS", 0, DEFAULT_FRAME_SIZE, _CONNECTION),
    ("PUSH_PROMISE", 4, DEFAULT_FRAME_SIZE, _STREAM),
    ("PING", 8, 8, _CONNECTION),
    ("GOAWAY", 8, DEFAULT_FRAME_SIZE, _CONNECTION),
    ("WINDOW_UPDATE", 4, 4, _ANY),
    ("CONTINUATION", 0, DEFAULT_FRAME_SIZE, _STREAM),
)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame, header and payload."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings(values: tuple[tuple[int, int], ...]) -> bytes:
    """A SETTINGS frame of (identifier, value) pairs."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values))


def rst_stream(stream_id: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, _U32.pack(code))


def ping(payload: bytes, flags: int = 0) -> bytes:
    """A PING frame; *payload* is eight bytes."""
    return frame(PING, flags, 0, payload)


def goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug)


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _U32.pack(increment))


def headers(stream_id: int, block: bytes, flags: int, max_size: int) -> bytes:
    """HEADERS, and as many CONTINUATION frames as a block longer than *max_size* needs (section 6.10)."""
    if len(block) <= max_size:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [frame(HEADERS, flags, stream_id, block[:max_size])]
    for start in range(max_size, len(block), max_size):
        last = END_HEADERS if start + max_size >= len(block) else 0
        parts.append(frame(CONTINUATION, last, stream_id, block[start : start + max_size]))
    return b"".join(parts)


def check(kind: int, stream_id: int, length: int) -> None:
    """Refuse a frame whose size or stream its type does not allow. Types that nobody knows pass (section 4.1)."""
    if kind >= len(_RULES):
        return
    name, shortest, longest, place = _RULES[kind]
    if not shortest <= length <= longest:
        raise ProtocolError(f"{name} frame of {length} bytes", ErrorCode.FRAME_SIZE_ERROR)
    if (place == _STREAM and stream_id == 0) or (place == _CONNECTION and stream_id != 0):
        raise ProtocolError(f"{name} frame on stream {stream_id}", ErrorCode.PROTOCOL_ERROR)


def unpad(flags: int, payload: bytes) -> bytes:
    """The content of a DATA or HEADERS payload: without padding (section 6.1) and priority fields (6.2)."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ProtocolError("padded frame without a pad length", ErrorCode.FRAME_SIZE_ERROR)
        start, end = 1, end - payload[0]
    if flags & PRIORITY_FLAG:
        start += 5
        if start > len(payload):
            raise ProtocolError("HEADERS frame too short for its priority", ErrorCode.FRAME_SIZE_ERROR)
    # 6.1: padding that is the length of the payload or longer is a connection error.
    if start > end:
        raise ProtocolError("padding longer than its frame", ErrorCode.PROTOCOL_ERROR)
    return payload[start:end]


def read_settings(flags: int, payload: bytes) -> tuple[tuple[int, int], ...]:
    """The (identifier, value) pairs of a SETTINGS payload (section 6.5)."""
    if flags & ACK and payload:
        raise ProtocolError("SETTINGS acknowledgement with a payload", ErrorCode.FRAME_SIZE_ERROR)
    if len(payload) % 6:
        raise ProtocolError(f"SETTINGS frame of {len(payload)} bytes", ErrorCode.FRAME_SIZE_ERROR)
    return tuple(_SETTING.iter_unpack(payload))


def read_goaway(payload: bytes) -> tuple[int, int, bytes]:
    """Last stream id, error code and debug data of a GOAWAY payload (section 6.8)."""
    last_stream_id, code = _GOAWAY.unpack_from(payload)
    return last_stream_id & MAX_31, code, payload[8:]


def read_u32(payload: bytes) -> int:
    """The number in a RST_STREAM or WINDOW_UPDATE payload."""
    number: int = _U32.unpack(payload)[0]
    return number
