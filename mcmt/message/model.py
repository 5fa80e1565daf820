"""The values that travel from intake to gateway: message, part, delivery.

Rules: frozen; no I/O; shared freely between deliveries of one message. A delivery is the unit of
retry, outcome and log line.
"""

from __future__ import annotations

import msgspec

from mcmt.message.notification import Asked

Headers = tuple[tuple[str, str], ...]
"""Header fields in order: names in lower case, values unfolded and stripped."""


def header(headers: Headers, name: str) -> str | None:
    """The value of the first field called *name* (lower case), or None."""
    for field, value in headers:
        if field == name:
            return value
    return None


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who sends and to whom, apart from what the message says of it (RFC 5321 2.3.1)."""

    reverse_path: str
    """MAIL FROM; empty for the null sender."""
    forward_paths: tuple[str, ...]
    """RCPT TO, in order."""
    peer: str = ""
    """IP address of the client."""
    connection_id: str = ""
    """The intake session, as in the main log."""
    protocol: str = "esmtp"
    """The door: esmtp, later http and others; ``internal`` for our own bounces."""
    user: str = ""
    """Who had logged in."""
    priority: int | None = None
    """The class that the client asked for beside the message (mcmt/message/priority.py); None: it asked for none."""
    ret: str = ""
    """How much of the message a report of its failure returns: FULL, HDRS, or not said (RFC 3461 4.3)."""
    envid: str = ""
    """The sender's own name for this envelope, printable ASCII, decoded (RFC 3461 4.4)."""
    asked: dict[str, Asked] = {}
    """By forward-path: what was asked of it."""
    release: str = ""
    """What was asked of its release, as a report repeats it: ``for;600``, ``until;2026-12-24T18:00:00Z`` (RFC 4865
    5.1.2)."""
    deliver_by: float = 0.0
    """By when the sender wanted it delivered, seconds since the epoch; 0: it did not say (RFC 2852)."""
    traceparent: str = ""
    """The trace that the client's request belongs to (mcmt/message/trace_context.py), where that stands beside the
    message."""


class Part(msgspec.Struct, frozen=True):
    """One channel's rendering of a message."""

    media_type: str
    """Lower case, without parameters: ``message/vnd.msys.apn``."""
    headers: Headers
    """The channel's own header fields."""
    content: bytes
    """What the channel carries, transfer encoding undone."""


class Message(msgspec.Struct, frozen=True):
    """One accepted message, without its deliveries."""

    batch_id: str
    """24 hex digits: the head of a UUIDv7 (mcmt/message/identity.py)."""
    received: float
    """Seconds since the epoch."""
    envelope: Envelope
    header_block: bytes
    """The message's own header fields as they came, for bounces."""
    context: dict[str, str]
    """Context variables (``DLV_Dest_ID`` and the like) from ``X-MCMT-Context``."""
    parts: tuple[Part, ...]
    size: int
    """Bytes of DATA."""


class NewDelivery(msgspec.Struct, frozen=True, gc=False):
    """One delivery as intake hands it to the spool, beside its message."""

    number: int
    """From 1, within the message; the delivery's id is ``<batch id>-<number>``."""
    domain: str
    """The routing domain, lower case."""
    recipient: str
    """The forward-path that it came from."""
    token: str
    """The address on the channel: a device token; for mail the recipient."""
    part: int
    """Index into the message's parts."""
    expires: float
    """Seconds since the epoch; after this it is never sent."""
    due: float = 0.0
    """Seconds since the epoch, before which it is not sent; 0: at once."""
    priority: int = 0
    """Its class (mcmt/message/priority.py): a larger one goes first."""
    collapse: bytes = b""
    """What it is alone to say: of its domain, a later delivery with the same one replaces it. Empty: nothing does."""
    asked: Asked | None = None
    """What its sender asked for; None: nothing."""
    warn: float = 0.0
    """Seconds since the epoch, when its sender is told that it is late; 0: never."""


class Sender(msgspec.Struct, frozen=True):
    """What the log and a channel need to know of a message while one of its deliveries is on its way."""

    batch_id: str
    received: float
    reverse_path: str
    context: dict[str, str]
    peer: str = ""
    """IP address of the client; empty for a message of our own."""
    protocol: str = ""
    """The door, where its clients may ask what became of a message (mcmt/message/event.py, TRACKED)."""
    ret: str = ""
    envid: str = ""
    """As of Envelope."""


class Delivery(msgspec.Struct, frozen=True):
    """One message for one recipient, as the engine and a channel hold it."""

    row: int
    """The spool's key."""
    number: int
    domain: str
    recipient: str
    token: str
    attempts: int
    """Attempts made before this one."""
    expires: float
    sender: Sender
    part: Part
    priority: int = 0
    """Its class (mcmt/message/priority.py): a larger one goes first."""
    asked: Asked | None = None
    superseded: str = ""
    """The batch id of the message that has replaced it: it is not to be sent."""

    @property
    def id(self) -> str:
        """``<batch id>-<number>``: the message id of every log line (``%i``)."""
        return f"{self.sender.batch_id}-{self.number}"
