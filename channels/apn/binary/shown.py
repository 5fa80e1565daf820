"""What a connection of the binary protocol says, for whoever watches it (mcmt/wire/trace.py)."""

from __future__ import annotations

from collections.abc import Sequence

from mcmt.wire.apns_binary import ErrorPacket, Notification, NotificationParser
from mcmt.wire.trace import Trace

from ..transport import tls_in_words
from .answers import words_of
from .stream import TlsStream

_LONGEST = 65_535  # what an item's length can say


def show_opened(trace: Trace, stream: TlsStream) -> None:
    """TLS is up."""
    trace.protocol, trace.peer = "binary", stream.remote_address
    trace.tell("event", "connected", tls_in_words(stream.tls))


def show_sent(trace: Trace, frames: Sequence[bytes]) -> None:
    """Frames that are written now, one notification each."""
    trace.protocol = "binary"
    for number, frame in enumerate(frames):
        if not trace.has_room:
            trace.left_out(len(frames) - number)
            return
        for notification in NotificationParser(max_payload=_LONGEST).receive(frame):
            _show(trace, notification, len(frame))


def _show(trace: Trace, notification: Notification, octets: int) -> None:
    values = {
        "identifier": notification.identifier,
        "token": notification.token.hex(),
        "expiration": notification.expiration,
        "priority": notification.priority,
    }
    fields = [(name, str(value)) for name, value in values.items() if value is not None]
    what = f"command {notification.command}"
    trace.tell("sent", what, fields=fields, octets=octets, body=notification.payload)


def show_packet(trace: Trace, packet: ErrorPacket) -> None:
    """The gateway's only answer."""
    trace.protocol = "binary"
    fields = [("identifier", str(packet.identifier)), ("status", str(packet.status))]
    trace.tell("received", "error packet", words_of(packet), fields=fields)
