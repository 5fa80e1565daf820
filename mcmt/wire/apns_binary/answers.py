"""What a gateway says: the error packet, and the tuples of the feedback service; built and read.

    error packet    | u8 8 | u8 status | u32 identifier |                 then the gateway closes
    feedback tuple  | u32 time | u16 token length | token |, repeated      then the service closes

Readers take bytes however they are split, and never more than one packet or one tuple ahead into memory.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from mcmt.errors import ProtocolError
from mcmt.wire.apns_binary.values import ErrorPacket, FeedbackTuple

_ERROR: Final = Struct(">BBI")
_ERROR_COMMAND: Final = 8
_TUPLE: Final = Struct(">IH")


def error_packet(status: int, identifier: int) -> bytes:
    """The packet that ends a connection: *identifier* failed with *status*, and nothing behind it was taken."""
    return _ERROR.pack(_ERROR_COMMAND, status, identifier)


def feedback_tuple(time: int, token: bytes) -> bytes:
    """One tuple of the feedback service; *time* in seconds since the epoch."""
    return _TUPLE.pack(time, len(token)) + token


class ErrorPacketParser:
    """Reads the one packet that a gateway may send on a connection."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def begun(self) -> bool:
        """Bytes have come, and no whole packet: at the end of the connection, half an answer."""
        return bool(self._buffer)

    def receive(self, data: bytes) -> ErrorPacket | None:
        """The packet, once it is whole; what stands behind it means nothing. Raises ProtocolError for anything else."""
        self._buffer = (self._buffer + data)[: _ERROR.size]
        if self._buffer and self._buffer[0] != _ERROR_COMMAND:
            raise ProtocolError(f"the gateway's answer begins with {self._buffer[0]}, and an error packet with 8")
        if len(self._buffer) < _ERROR.size:
            return None
        _, status, identifier = _ERROR.unpack(self._buffer)
        self._buffer = b""
        return ErrorPacket(status, identifier)


class FeedbackParser:
    """Reads what the feedback service sends until it closes."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def begun(self) -> bool:
        """Bytes of a tuple that is not whole have come: at the end of the connection, the list was cut."""
        return bool(self._buffer)

    def receive(self, data: bytes) -> list[FeedbackTuple]:
        """The tuples that *data* completed, in order."""
        data = self._buffer + data
        found: list[FeedbackTuple] = []
        at = 0
        while len(data) - at >= _TUPLE.size:
            time, size = _TUPLE.unpack_from(data, at)
            end = at + _TUPLE.size + size
            if end > len(data):
                break
            found.append(FeedbackTuple(time, data[at + _TUPLE.size : end]))
            at = end
        self._buffer = data[at:]
        return found
