"""The peer's SETTINGS (RFC 9113 section 6.5.2): the values in force, and what a change of them may say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mcmt.errors import ProtocolError
from mcmt.wire import frames
from mcmt.wire.frames import ErrorCode

UNLIMITED: Final = 0xFFFFFFFF


class PeerSettings(msgspec.Struct, frozen=True):
    """Settings in force; at first the RFC's initial values."""

    header_table_size: int = 4096
    max_concurrent_streams: int = UNLIMITED
    initial_window_size: int = frames.DEFAULT_WINDOW
    max_frame_size: int = frames.DEFAULT_FRAME_SIZE
    max_header_list_size: int = UNLIMITED
    """Advisory: the largest header list of a request that the peer takes."""


# identifier: (field of PeerSettings, smallest, largest, error beyond them)
_RULES: Final = {
    frames.HEADER_TABLE_SIZE: ("header_table_size", 0, UNLIMITED, ErrorCode.PROTOCOL_ERROR),
    frames.ENABLE_PUSH: ("", 0, 0, ErrorCode.PROTOCOL_ERROR),  # a server may only say no
    frames.MAX_CONCURRENT_STREAMS: ("max_concurrent_streams", 0, UNLIMITED, ErrorCode.PROTOCOL_ERROR),
    frames.INITIAL_WINDOW_SIZE: ("initial_window_size", 0, frames.MAX_31, ErrorCode.FLOW_CONTROL_ERROR),
    frames.MAX_FRAME_SIZE: (
        "max_frame_size",
        frames.DEFAULT_FRAME_SIZE,
        frames.LARGEST_FRAME_SIZE,
        ErrorCode.PROTOCOL_ERROR,
    ),
    frames.MAX_HEADER_LIST_SIZE: ("max_header_list_size", 0, UNLIMITED, ErrorCode.PROTOCOL_ERROR),
}


def changed(settings: PeerSettings, pairs: Iterable[tuple[int, int]]) -> PeerSettings:
    """*settings* after the peer's (identifier, value) *pairs*. Raises ProtocolError for a value out of range."""
    changes: dict[str, int] = {}
    for identifier, value in pairs:
        if identifier not in _RULES:
            continue  # unknown ones are ignored
        name, smallest, largest, code = _RULES[identifier]
        if not smallest <= value <= largest:
            raise ProtocolError(f"the peer sent setting {identifier} with the value {value}", code)
        if name:
            changes[name] = value
    return msgspec.structs.replace(settings, **changes)
