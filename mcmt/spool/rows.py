"""How values become columns and columns become values: pure, and the only place that knows.

JSON where a pull gathers many rows into one text inside SQLite, msgpack elsewhere. Decoding checks the
types, so a damaged row is told from a good one here and nowhere else: whatever decodes is right in form.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mcmt.message.event import TRACKED, Event
from mcmt.message.failure import Failure
from mcmt.message.model import Envelope, Headers, Message, NewDelivery, Part, Sender
from mcmt.message.notification import Asked

_LAST_MICROSECOND = 2**62


class Data(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``delivery.data``: what nothing queries. Fields are only added, at the end, with defaults."""

    number: int
    part: int
    recipient: str
    token: str
    size: int
    """Bytes of the part's content, so that a pull can count before it reads them."""
    expires: float
    """As given; the column beside it is rounded."""
    superseded: str = ""
    """The batch id of the message that has replaced it: it is not sent any more."""
    asked: Asked | None = None


class StoredDelivery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivery as a pull reads it."""

    row: int
    message: int
    attempts: int
    due: int
    expires: int
    priority: int
    domain: str
    data: Data


class StoredEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivery as a listing reads it."""

    row: int
    message: int
    domain: str
    due: int
    attempts: int
    last: str
    data: Data
    priority: int = 0


class SenderData(msgspec.Struct, frozen=True, array_like=True):
    """``message.sender``."""

    batch_id: str
    received: float
    reverse_path: str
    context: dict[str, str]
    peer: str = ""
    protocol: str = ""
    ret: str = ""
    envid: str = ""

    def sender(self) -> Sender:
        """The value that travels."""
        return Sender(
            self.batch_id,
            self.received,
            self.reverse_path,
            self.context,
            self.peer,
            self.protocol,
            self.ret,
            self.envid,
        )


class StoredMessage(msgspec.Struct, frozen=True, array_like=True):
    """A message as a pull reads it."""

    id: int
    deliveries: int
    parts: int
    sender: SenderData


class PartHead(msgspec.Struct, frozen=True, array_like=True):
    """``part.head``."""

    media_type: str
    headers: Headers


class StoredPart(msgspec.Struct, frozen=True, array_like=True):
    """A part as a pull reads it, apart from its content."""

    id: int
    length: int
    head: PartHead


class StoredReport(msgspec.Struct, frozen=True, array_like=True):
    """An owed report as a page of them is read, apart from its failures and its message's envelope."""

    id: int
    return_path: str
    through: int
    """The id of its last failure; 0: it has none."""
    count: int
    length: int
    """Of its message's ``envelope``."""
    sender: SenderData
    others: int = 0
    """Those of ``count`` that did not fail."""


class StoredFailure(msgspec.Struct, frozen=True, array_like=True):
    """``failure``."""

    id: int
    report: int
    last: str
    data: Failure


class EnvelopeData(msgspec.Struct, frozen=True, array_like=True):
    """``message.envelope``: what only a report needs."""

    envelope: Envelope
    header_block: bytes
    size: int


_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()
decode_sender = msgspec.json.Decoder(SenderData).decode
decode_deliveries = msgspec.json.Decoder(list[StoredDelivery]).decode
decode_entries = msgspec.json.Decoder(list[StoredEntry]).decode
decode_messages = msgspec.json.Decoder(list[StoredMessage]).decode
decode_parts = msgspec.json.Decoder(list[StoredPart]).decode
decode_reports = msgspec.json.Decoder(list[StoredReport]).decode
decode_failures = msgspec.json.Decoder(list[StoredFailure]).decode
decode_envelope = msgspec.msgpack.Decoder(EnvelopeData).decode
decode_events = msgspec.msgpack.Decoder(tuple[Event, ...]).decode


def encode_sender(message: Message) -> str:
    """``message.sender``."""
    envelope = message.envelope
    sender = (message.batch_id, message.received, envelope.reverse_path, message.context, envelope.peer)
    protocol = envelope.protocol if envelope.protocol in TRACKED else ""
    if envelope.ret or envelope.envid:
        return _json.encode((*sender, protocol, envelope.ret, envelope.envid)).decode()
    return _json.encode((*sender, protocol) if protocol else sender).decode()


def encode_envelope(message: Message) -> bytes:
    """``message.envelope``."""
    return _msgpack.encode(EnvelopeData(message.envelope, message.header_block, message.size))


def encode_head(part: Part) -> str:
    """``part.head``."""
    return _json.encode((part.media_type, part.headers)).decode()


def encode_data(deliveries: Sequence[NewDelivery], sizes: Sequence[int]) -> str:
    """A JSON array of ``delivery.data``; *sizes*: of the contents of their message's parts."""
    data = [
        (one.number, one.part, one.recipient, one.token, sizes[one.part], one.expires)
        if one.asked is None
        else (one.number, one.part, one.recipient, one.token, sizes[one.part], one.expires, "", one.asked)
        for one in deliveries
    ]
    return _json.encode(data).decode()


def encode_failure(failure: Failure) -> str:
    """``failure.data``."""
    return _json.encode(failure).decode()


def encode_events(events: Sequence[Event]) -> bytes:
    """``outbox.events``."""
    return _msgpack.encode(events)


def microseconds(time: float) -> int:
    """Seconds since the epoch as the columns have it; what lies beyond the end of time is the end of time."""
    return round(time * 1e6) if time < _LAST_MICROSECOND / 1e6 else _LAST_MICROSECOND


def due_at(time: float) -> int:
    """A due time in microseconds; never 0, which means at once."""
    return max(1, microseconds(time))


def first_due(delivery: NewDelivery) -> int:
    """When a delivery that nobody has tried is due, in microseconds; 0: at once."""
    return due_at(delivery.due) if delivery.due else 0


def seconds(time: int) -> float:
    """Seconds since the epoch, from microseconds."""
    return time / 1e6
