"""What a client of the binary protocol sends: notifications in three layouts, read one by one. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

LONGEST: Final = 64 * 1024
"""Bytes of the items of one frame."""
_SIMPLE, _ENHANCED, _ITEMS = range(3)
_TOKEN, _PAYLOAD, _IDENTIFIER, _EXPIRATION, _PRIORITY = range(1, 6)


class Frame(msgspec.Struct, frozen=True):
    """One notification; what its layout or its client leaves out is None."""

    command: int
    token: bytes
    payload: bytes
    identifier: int | None = None
    expiration: int | None = None
    priority: int | None = None


class UnreadableError(Exception):
    """What came is no notification; where it had one, its identifier."""

    def __init__(self, text: str, identifier: int = 0) -> None:
        super().__init__(text)
        self.identifier = identifier


def take(buffer: bytearray) -> Frame | None:
    """Take the notification at the front of *buffer*; None while it is not whole. Raises UnreadableError."""
    if not buffer:
        return None
    command = buffer[0]
    if command in (_SIMPLE, _ENHANCED):
        return _take_fields(buffer, command)
    if command != _ITEMS:
        raise UnreadableError(f"command {command}")
    if len(buffer) < 5:
        return None
    end = 5 + _number(buffer, 1, 4)
    if end > LONGEST:
        raise UnreadableError(f"a frame of {end} bytes")
    if len(buffer) < end:
        return None
    content = bytes(buffer[5:end])
    del buffer[:end]
    return _read_items(content)


def _take_fields(buffer: bytearray, command: int) -> Frame | None:
    at = 1 if command == _SIMPLE else 9
    if len(buffer) < at + 2:
        return None
    payload_at = at + 2 + _number(buffer, at, 2)
    if len(buffer) < payload_at + 2:
        return None
    end = payload_at + 2 + _number(buffer, payload_at, 2)
    if len(buffer) < end:
        return None
    token, payload = bytes(buffer[at + 2 : payload_at]), bytes(buffer[payload_at + 2 : end])
    numbers = (None, None) if command == _SIMPLE else (_number(buffer, 1, 4), _number(buffer, 5, 4))
    del buffer[:end]
    return Frame(command, token, payload, *numbers)


def _read_items(content: bytes) -> Frame:
    items: dict[int, bytes] = {}
    while content:
        size = _number(content, 1, 2)
        if len(content) < 3 + size:
            raise UnreadableError("an item that is cut", _optional(items, _IDENTIFIER) or 0)
        items[content[0]] = content[3 : 3 + size]
        content = content[3 + size :]
    return Frame(
        _ITEMS,
        items.get(_TOKEN, b""),
        items.get(_PAYLOAD, b""),
        _optional(items, _IDENTIFIER),
        _optional(items, _EXPIRATION),
        _optional(items, _PRIORITY),
    )


def _optional(items: dict[int, bytes], item: int) -> int | None:
    return int.from_bytes(items[item], "big") if item in items else None


def _number(data: bytes | bytearray, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
