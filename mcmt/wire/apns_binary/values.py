"""What travels over the binary protocol: notifications, error packets, feedback, and the gateway's statuses.

Frozen, numbers and bytes alone, so without a place in the garbage collector's walks.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

TOKEN_SIZE: Final = 32
"""Bytes of a device token: the layouts 0 and 1 know no other, and no gateway is known to take another."""


class Status(IntEnum):
    """The status codes of an error packet (Apple, "Codes in error-response packet")."""

    NO_ERROR = 0
    PROCESSING_ERROR = 1
    MISSING_TOKEN = 2
    MISSING_TOPIC = 3
    MISSING_PAYLOAD = 4
    TOKEN_SIZE = 5
    TOPIC_SIZE = 6
    PAYLOAD_SIZE = 7
    INVALID_TOKEN = 8
    SHUTDOWN = 10
    """The identifier is that of the last notification that was taken."""
    PROTOCOL_ERROR = 128
    """The gateway could not read what it got; the identifier may be 0."""
    UNKNOWN = 255


WORDS: Final[dict[int, str]] = {
    Status.NO_ERROR: "No Errors",
    Status.PROCESSING_ERROR: "Processing Error",
    Status.MISSING_TOKEN: "Missing Device Token",
    Status.MISSING_TOPIC: "Missing Topic",
    Status.MISSING_PAYLOAD: "Missing Payload",
    Status.TOKEN_SIZE: "Invalid Token Size",
    Status.TOPIC_SIZE: "Invalid Topic Size",
    Status.PAYLOAD_SIZE: "Invalid Payload Size",
    Status.INVALID_TOKEN: "Invalid Token",
    Status.SHUTDOWN: "Shutdown",
    Status.PROTOCOL_ERROR: "Protocol Error",
    Status.UNKNOWN: "Unknown",
}
"""Each status in words, as the log has it."""


class Notification(msgspec.Struct, frozen=True, gc=False):
    """One notification as a client sends it."""

    command: int
    """The layout: 0 (simple), 1 (enhanced) or 2 (items)."""
    token: bytes
    payload: bytes
    identifier: int | None = None
    """The client's own number, 32 bits, which an error packet names; None where the layout or the client gives none."""
    expiration: int | None = None
    """Seconds since the epoch; 0: do not store. None where none is given."""
    priority: int | None = None
    """10 or 5; None where none is given, which means 10."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why a gateway takes neither this notification nor anything behind it on the connection."""

    status: int
    """For the error packet, one of Status."""
    identifier: int | None
    """The notification's own; None where it has none or could not be read."""
    text: str
    """What is wrong, for our own log."""


class ErrorPacket(msgspec.Struct, frozen=True, gc=False):
    """The gateway's only answer."""

    status: int
    """One of Status, or a number that Apple's table does not have."""
    identifier: int


class FeedbackTuple(msgspec.Struct, frozen=True, gc=False):
    """A device token that is no longer in use."""

    time: int
    """Seconds since the epoch: when the gateway found that the app is no longer on the device."""
    token: bytes
