"""What the events of a message become: the spans of one trace, each known from its event alone.

    receive            the message was taken on: a point in time, from which it was on disk
    └── deliver apn    one delivery, from the reception to its final event
        ├── attempt apn    one try, from the request to the answer
        └── attempt apn

Ids are made of the message's own, so nothing has to be remembered between an event and the next, in memory or on disk:
whoever reads the same event again, in another process or after a crash, makes the same span. The trace id is the batch
id and eight zeros, which an operator who holds a line of the log can write down; where the sender gave a
``traceparent``, it is the sender's, and the reception is a child of the sender's span.

Sampled is a trace whose id's last 56 bits are no less than (1 - ratio) * 2**56, as other samplers of this kind choose
(OpenTelemetry, TraceState: Probability Sampling). Of a batch id these bits are random; what is sampled is so in every
process, and over a crash.

Nothing of a message's content is in a span, no address of a person, and of a device token the first and last four
characters.

Rules: pure; called in the event log's thread. An event that is not sampled costs no object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from mcmt.eventlog.tokens import compile_tokens
from mcmt.message.event import Event, Kind, OutboxRow
from mcmt.message.trace_context import VARIABLE, Parent, parent_of

SpanKind = Literal["server", "internal", "client"]
Value = str | int | float

_BATCH_ID: Final = 24
_BITS: Final = 56
_RANDOM: Final = 32 - _BITS // 4
"""Where the random bits of a trace id begin, in hex digits."""
_TOLD: Final = frozenset({Kind.RECEPTION, Kind.DELIVERY, Kind.TRANSIENT, Kind.PERMANENT})
_INTERNAL: Final = "[internal]"
"""What stands in a reason of our own making: what ended so was not tried."""
_DOOR_OF_OURS: Final = "internal"
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),;:]+@[^\s<>\"'(),;]+")
_mask = compile_tokens("masked")


class Span(msgspec.Struct, frozen=True, gc=False):
    """One span, as it is to be sent."""

    name: str
    kind: SpanKind
    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_id: str
    """16 hex digits; empty for the root of a trace."""
    remote_parent: bool
    """The parent is not ours."""
    start: float
    """Seconds since the epoch."""
    end: float
    attributes: dict[str, Value]
    error: str
    """What went wrong; empty: nothing."""


class Sampler:
    """Which messages have a trace."""

    def __init__(self, ratio: float, *, parent_based: bool) -> None:
        """*ratio*: from 0 to 1. *parent_based*: where the sender says whether it records the trace, so do we."""
        least = round((1 - ratio) * 2**_BITS)
        # As hex digits without the zeros at the end, so that texts are compared as the numbers are, also those of a
        # batch id, which are fewer. "g" stands past all digits.
        self._least = f"{least:0{_BITS // 4}x}".rstrip("0") if least < 2**_BITS else "g"
        self._parent_based = parent_based

    def takes(self, batch_id: str, parent: Parent | None) -> bool:
        """Whether the message with this batch id has one."""
        if parent is None:
            return batch_id[_RANDOM:] >= self._least
        return parent.sampled if self._parent_based else parent.trace_id[_RANDOM:] >= self._least


def spans_of(shard: str, rows: Sequence[OutboxRow], sampler: Sampler) -> Iterator[Span]:
    """The spans of all that *rows* tell; those of *shard*, which is a worker's."""
    receptions: dict[str, list[Event]] = {}
    for row in rows:
        for event in row.events:
            if event.kind not in _TOLD or len(event.batch_id) != _BATCH_ID:
                continue
            context = event.context
            parent = parent_of(context[VARIABLE]) if context and VARIABLE in context else None
            if not sampler.takes(event.batch_id, parent):
                continue
            if event.kind is Kind.RECEPTION:
                receptions.setdefault(event.batch_id, []).append(event)
            else:
                yield from _of_delivery(shard, event, parent)
    for events in receptions.values():
        # The events of many recipients may be read in several turns: the span is made of those that come with the
        # first recipient's.
        if any(event.id.endswith("-1") for event in events):
            yield _reception(shard, events)


def trace_id_of(batch_id: str, parent: Parent | None) -> str:
    """32 hex digits."""
    return parent.trace_id if parent else f"{batch_id}00000000"


def _span_id(name: str) -> str:
    return blake2b(name.encode(), digest_size=8).hexdigest()


def _reception(shard: str, events: Sequence[Event]) -> Span:
    event = events[0]
    parent = parent_of((event.context or {}).get(VARIABLE, ""))
    attributes: dict[str, Value] = {
        "messaging.system": "mcmt",
        "messaging.operation.name": "receive",
        "messaging.message.id": event.batch_id,
        "messaging.message.body.size": event.size,
        "mcmt.door": event.protocol,
        "mcmt.recipients": len(events),
        "mcmt.deliveries": sum([each.deliveries for each in events]),
        "mcmt.shard": shard,
    }
    if event.connection_id:
        attributes["mcmt.connection_id"] = event.connection_id
    if event.remote_address:
        attributes["client.address"] = event.remote_address
    return Span(
        "receive",
        "internal" if event.protocol == _DOOR_OF_OURS else "server",
        trace_id_of(event.batch_id, parent),
        _span_id(event.batch_id),
        parent.span_id if parent else "",
        parent is not None,
        event.time,
        event.time,
        attributes,
        "",
    )


def _of_delivery(shard: str, event: Event, parent: Parent | None) -> Iterator[Span]:
    event = event if _mask is None else _mask(event)
    reason = _ADDRESS.sub("...", event.text)
    trace_id = trace_id_of(event.batch_id, parent)
    delivery = _span_id(event.id)
    attributes: dict[str, Value] = {
        "messaging.system": "mcmt",
        "messaging.destination.name": event.domain,
        "messaging.message.id": event.id,
        "mcmt.channel": event.channel,
        "mcmt.shard": shard,
    }
    if event.token and "@" not in event.token:
        attributes["mcmt.token"] = event.token
    if event.remote_id:
        attributes["mcmt.remote_id"] = event.remote_id
    if event.code:
        attributes["mcmt.code"] = event.code
    if reason:
        attributes["mcmt.reason"] = reason
    failed = event.kind is not Kind.DELIVERY
    error = f"{event.code} {reason}".strip() if failed else ""
    if failed:
        attributes["error.type"] = event.code or event.kind.name.lower()
    if event.kind is Kind.TRANSIENT or not (failed and _INTERNAL in event.text):
        tried = attributes | {
            "messaging.operation.name": "attempt",
            "mcmt.attempt": event.attempt + 1,
            "messaging.message.envelope.size": event.size,
        }
        if event.remote_address:
            tried["network.peer.address"] = event.remote_address
        name, number = f"attempt {event.channel}", _span_id(f"{event.id}/{event.attempt}")
        yield Span(name, "client", trace_id, number, delivery, False, event.time - event.wire, event.time, tried, error)
    if event.kind is not Kind.TRANSIENT:
        attributes["messaging.operation.name"] = "deliver"
        attributes["mcmt.attempts"] = event.attempt + (0 if failed and _INTERNAL in event.text else 1)
        name, begun, under = f"deliver {event.channel}", event.time - event.queued, _span_id(event.batch_id)
        yield Span(name, "internal", trace_id, delivery, under, False, begun, event.time, attributes, error)
