"""Notifications from a client to a gateway: built for sending, and read by a gateway.

    0  | u8 0 | u16 token length | token | u16 payload length | payload |
    1  | u8 1 | u32 identifier | u32 expiration | u16 token length | token | u16 payload length | payload |
    2  | u8 2 | u32 length of all items | items ... |        item  | u8 number | u16 length | data |
       items: 1 token, 2 payload, 3 identifier (4 bytes), 4 expiration (4), 5 priority (1)

Rules of the reader: what a prefix of the stream means does not depend on how it was split; after the first fault
nothing is taken any more; a frame is held until it is whole, so memory is bounded by MAX_FRAME and one read.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from mcmt.wire.apns_binary.values import TOKEN_SIZE, Fault, Notification, Status

MAX_FRAME: Final = 128 * 1024
"""Bytes of items that a gateway reads: a payload as long as an item can be, and what belongs to it, has room."""

_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_ENHANCED: Final = Struct(">IIH")
_ITEM: Final = Struct(">BH")
_TOKEN, _PAYLOAD, _IDENTIFIER, _EXPIRATION, _PRIORITY = range(1, 6)
_FIXED: Final = {_IDENTIFIER: 4, _EXPIRATION: 4, _PRIORITY: 1}
"""Bytes of the items that have one size alone."""
_OVERHEAD: Final = 5 * _ITEM.size + sum(_FIXED.values())
_COMMANDS: Final = frozenset({0, 1, 2})


class Prepared(NamedTuple):
    """What the frames of one notification to many tokens have in common."""

    head: bytes
    middle: bytes
    tail: bytes


def prepare(payload: bytes, expiration: int, priority: int, token_size: int = TOKEN_SIZE) -> Prepared:
    """The pieces of command 2 around a token of *token_size* bytes and an identifier."""
    length = _OVERHEAD + token_size + len(payload)
    return Prepared(
        b"\x02" + _U32.pack(length) + _ITEM.pack(_TOKEN, token_size),
        _ITEM.pack(_PAYLOAD, len(payload)) + payload + _ITEM.pack(_IDENTIFIER, 4),
        _ITEM.pack(_EXPIRATION, 4) + _U32.pack(expiration) + _ITEM.pack(_PRIORITY, 1) + bytes((priority,)),
    )


def frame(prepared: Prepared, token: bytes, identifier: int) -> bytes:
    """One notification as command 2, its items in the order of their numbers; *token* of the size prepared for."""
    head, middle, tail = prepared
    return b"".join((head, token, middle, identifier.to_bytes(4, "big"), tail))


def encode(notification: Notification) -> bytes:
    """A notification in the layout of its command; of command 2 the items that it has. Raises ValueError for others."""
    token, payload = notification.token, notification.payload
    both = _U16.pack(len(token)) + token + _U16.pack(len(payload)) + payload
    if notification.command == 0:
        return b"\x00" + both
    if notification.command == 1:
        return b"\x01" + _U32.pack(notification.identifier or 0) + _U32.pack(notification.expiration or 0) + both
    if notification.command != 2:
        raise ValueError(f"there is no command {notification.command}")
    items = [(_TOKEN, token), (_PAYLOAD, payload)]
    for number, value in ((_IDENTIFIER, notification.identifier), (_EXPIRATION, notification.expiration)):
        if value is not None:
            items.append((number, _U32.pack(value)))
    if notification.priority is not None:
        items.append((_PRIORITY, bytes((notification.priority,))))
    content = b"".join([_ITEM.pack(number, len(data)) + data for number, data in items])
    return b"\x02" + _U32.pack(len(content)) + content


class NotificationParser:
    """A gateway's reader of one connection: what it takes, and the first thing that it cannot take."""

    def __init__(self, *, max_payload: int = 4096, token_sizes: range = range(TOKEN_SIZE, TOKEN_SIZE + 1)) -> None:
        """*max_payload*: bytes, more is PAYLOAD_SIZE. *token_sizes*: bytes that a token may have, others TOKEN_SIZE."""
        self._max_payload = max_payload
        self._token_sizes = token_sizes
        self._rest = bytearray()
        self._needed = 0
        self.fault: Fault | None = None
        """Why nothing is taken any more."""

    @property
    def begun(self) -> bool:
        """Bytes of a notification that is not whole have come: at the end of the connection it was never sent."""
        return bool(self._rest)

    def receive(self, data: bytes) -> list[Notification]:
        """The notifications that *data* completed, in order, up to the first fault."""
        if self.fault is not None:
            return []
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        found: list[Notification] = []
        at, end = 0, len(data)
        while at < end:
            command = data[at]
            if command not in _COMMANDS:
                self.fault = Fault(Status.PROTOCOL_ERROR, None, f"there is no command {command}")
                return found
            stop, result = (self._items if command == 2 else self._fields)(data, at, end)
            if result is None:
                self._rest += data[at:]
                self._needed = stop - at
                return found
            if type(result) is Fault:
                self.fault = result
                return found
            found.append(result)  # type: ignore[arg-type]  # no Fault and not None
            at = stop
        return found

    # Each returns where the notification ends and what it is; or None, and where it ends at the earliest.

    def _fields(self, data: bytes, at: int, end: int) -> tuple[int, Notification | Fault | None]:
        command = data[at]
        identifier = expiration = None
        if command == 0:
            token_at = at + 1 + _U16.size
            if end < token_at:
                return token_at, None
            (token_size,) = _U16.unpack_from(data, at + 1)
        else:
            token_at = at + 1 + _ENHANCED.size
            if end < token_at:
                return token_at, None
            identifier, expiration, token_size = _ENHANCED.unpack_from(data, at + 1)
        payload_at = token_at + token_size + _U16.size
        if fault := self._wrong_token(token_size, identifier):
            return payload_at, fault
        if end < payload_at:
            return payload_at, None
        (payload_size,) = _U16.unpack_from(data, token_at + token_size)
        stop = payload_at + payload_size
        if fault := self._wrong_payload(payload_size, identifier):
            return stop, fault
        if end < stop:
            return stop, None
        token, payload = data[token_at : token_at + token_size], data[payload_at:stop]
        return stop, Notification(command, token, payload, identifier, expiration)

    def _items(self, data: bytes, at: int, end: int) -> tuple[int, Notification | Fault | None]:
        here = at + 1 + _U32.size
        if end < here:
            return here, None
        (length,) = _U32.unpack_from(data, at + 1)
        stop = here + length
        if length > MAX_FRAME:
            return stop, Fault(Status.PROTOCOL_ERROR, None, f"a frame of {length} bytes, and {MAX_FRAME} are the most")
        if end < stop:
            return stop, None
        items: dict[int, bytes] = {}
        wrong = ""
        while here < stop and not wrong:
            number, size = _ITEM.unpack_from(data, here) if stop - here >= _ITEM.size else (0, MAX_FRAME)
            here += _ITEM.size
            if here + size > stop:
                wrong = "an item is longer than its frame"
            elif _FIXED.get(number, size) != size:
                wrong = f"item {number} has {size} bytes, and {_FIXED[number]} are right"
            elif number in items and number <= _PRIORITY:
                wrong = f"item {number} is there twice"
            else:
                items[number] = data[here : here + size]
            here += size
        identifier = int.from_bytes(items[_IDENTIFIER], "big") if _IDENTIFIER in items else None
        if wrong:
            return stop, Fault(Status.PROTOCOL_ERROR, identifier, wrong)
        token, payload = items.get(_TOKEN, b""), items.get(_PAYLOAD, b"")
        fault = self._wrong_token(len(token), identifier) or self._wrong_payload(len(payload), identifier)
        if fault is not None:
            return stop, fault
        expiration = int.from_bytes(items[_EXPIRATION], "big") if _EXPIRATION in items else None
        priority = items[_PRIORITY][0] if _PRIORITY in items else None
        return stop, Notification(2, token, payload, identifier, expiration, priority)

    def _wrong_token(self, size: int, identifier: int | None) -> Fault | None:
        if size in self._token_sizes:
            return None
        status = Status.TOKEN_SIZE if size else Status.MISSING_TOKEN
        return Fault(status, identifier, f"a device token of {size} bytes")

    def _wrong_payload(self, size: int, identifier: int | None) -> Fault | None:
        if 0 < size <= self._max_payload:
            return None
        status = Status.PAYLOAD_SIZE if size else Status.MISSING_PAYLOAD
        return Fault(status, identifier, f"a payload of {size} bytes, and {self._max_payload} are the most")
