"""What events become: spans, each made of its event alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from mcmt.message.event import Event, Kind, OutboxRow
from mcmt.message.identity import new_batch_id
from mcmt.telemetry.spans import Sampler, Span, spans_of

BATCH = "019ab12c4d5e7f3a8b1c2d3e"
TRACE = f"{BATCH}00000000"
TOKEN = "0123456789abcdef" * 4
PARENT_TRACE, PARENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ALL = Sampler(1.0, parent_based=True)


@dataclass
class Context:
    """The context variables of a message whose sender gave a traceparent."""

    sampled: bool

    @property
    def variables(self) -> dict[str, str]:
        return {"traceparent": f"00-{PARENT_TRACE}-{PARENT_SPAN}-0{int(self.sampled)}"}


def event(kind: Kind, **fields: Any) -> Event:
    about: dict[str, Any] = {"id": f"{BATCH}-1", "batch_id": BATCH, "channel": "apn", "domain": "apn.example.com"}
    about |= {"time": 1000.0, "recipient": f"{TOKEN}@apn.example.com", "sender": "app@example.com"}
    if kind is not Kind.RECEPTION:
        about |= {"token": TOKEN, "queued": 2.0, "wire": 0.25}
    return Event(kind=kind, **{**about, **fields})


def spans(*events: Event, sampler: Sampler = ALL) -> list[Span]:
    return list(spans_of("1", [OutboxRow(7, events)], sampler))


def test_a_message_is_one_trace_from_its_reception_to_each_final_answer() -> None:
    (receive,) = spans(
        event(Kind.RECEPTION, size=900, protocol="esmtp", deliveries=1, remote_address="192.0.2.1", connection_id="c-1")
    )
    tried, delivered = spans(event(Kind.DELIVERY, remote_id="ABC", remote_address="17.0.0.1", attempt=1, size=77))

    assert (receive.name, receive.kind, receive.parent_id) == ("receive", "server", "")
    assert (receive.start, receive.end, receive.error) == (1000.0, 1000.0, "")
    assert receive.attributes == {
        "messaging.system": "mcmt",
        "messaging.operation.name": "receive",
        "messaging.message.id": BATCH,
        "messaging.message.body.size": 900,
        "mcmt.door": "esmtp",
        "mcmt.recipients": 1,
        "mcmt.deliveries": 1,
        "mcmt.shard": "1",
        "mcmt.connection_id": "c-1",
        "client.address": "192.0.2.1",
    }
    assert (delivered.name, delivered.parent_id) == ("deliver apn", receive.span_id)
    assert (delivered.start, delivered.end) == (998.0, 1000.0)
    assert delivered.attributes["mcmt.attempts"] == 2
    assert (tried.name, tried.kind, tried.parent_id) == ("attempt apn", "client", delivered.span_id)
    assert (tried.start, tried.end) == (999.75, 1000.0)
    assert tried.attributes["mcmt.attempt"] == 2
    assert tried.attributes["network.peer.address"] == "17.0.0.1"
    assert tried.attributes["messaging.message.envelope.size"] == 77
    assert {one.trace_id for one in (receive, tried, delivered)} == {TRACE}
    assert len({one.span_id for one in (receive, tried, delivered)}) == 3


def test_each_try_is_a_span_under_the_delivery_that_ends_later() -> None:
    (first,) = spans(event(Kind.TRANSIENT, attempt=0, code="503", text="ServiceUnavailable"))
    second, ended = spans(event(Kind.PERMANENT, attempt=1, code="410", text="Unregistered"))
    assert (first.error, second.error, ended.error) == (
        "503 ServiceUnavailable",
        "410 Unregistered",
        "410 Unregistered",
    )
    assert first.parent_id == second.parent_id == ended.span_id
    assert first.span_id != second.span_id
    assert first.attributes["error.type"] == "503"
    assert (ended.attributes["mcmt.code"], ended.attributes["mcmt.reason"]) == ("410", "Unregistered")
    assert ended.attributes["mcmt.attempts"] == 2


def test_what_ended_by_our_own_doing_was_not_tried() -> None:
    last, ended = spans(
        event(Kind.TRANSIENT, attempt=1, code="503", text="ServiceUnavailable"),
        event(Kind.PERMANENT, attempt=2, code="554", text="5.4.7 [internal] exceeded max retries without delivery"),
    )
    assert (last.name, ended.name) == ("attempt apn", "deliver apn")
    assert ended.attributes["mcmt.attempts"] == 2


def test_the_same_event_makes_the_same_span_wherever_it_is_read() -> None:
    once = spans(event(Kind.DELIVERY))
    assert once == spans(event(Kind.DELIVERY))
    assert not {one.span_id for one in once} & {one.span_id for one in spans(event(Kind.DELIVERY, id=f"{BATCH}-2"))}


def test_a_message_with_many_recipients_is_received_once() -> None:
    events = [event(Kind.RECEPTION, id=f"{BATCH}-{number}", deliveries=1) for number in (1, 2, 3)]
    (receive,) = spans(*events)
    assert (receive.attributes["mcmt.recipients"], receive.attributes["mcmt.deliveries"]) == (3, 3)
    # What is read in another turn, because there are so many of them, makes no second one.
    assert spans(*events[1:]) == []


def test_the_senders_trace_goes_on() -> None:
    context = Context(sampled=True).variables
    (receive,) = spans(event(Kind.RECEPTION, context=context))
    tried, delivered = spans(event(Kind.DELIVERY, context=context))
    assert {one.trace_id for one in (receive, tried, delivered)} == {PARENT_TRACE}
    assert (receive.parent_id, receive.remote_parent) == (PARENT_SPAN, True)
    assert (delivered.parent_id, delivered.remote_parent) == (receive.span_id, False)


def test_no_address_and_no_whole_token_leaves() -> None:
    reason = f"5.1.1 <{TOKEN}@apn.example.com> and other@example.net are unknown, {TOKEN.upper()}"
    for one in spans(
        event(Kind.RECEPTION),
        event(Kind.TRANSIENT, code="450", text=reason),
        event(Kind.PERMANENT, code="550", text=reason),
        event(Kind.DELIVERY, token="user@example.org", recipient="user@example.org"),
    ):
        told = repr(one).lower()
        assert TOKEN not in told
        assert "example.net" not in told
        assert "@" not in told
    (_, ended) = spans(event(Kind.PERMANENT, code="410", text="Unregistered"))
    assert ended.attributes["mcmt.token"] == "0123...cdef"


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.25, 1.0])
def test_as_many_messages_as_are_asked_for_are_sampled_and_each_wholly(ratio: float) -> None:
    draw = random.Random(1)
    sampler = Sampler(ratio, parent_based=True)
    batches = [new_batch_id(1_700_000_000 + number, draw.getrandbits) for number in range(20_000)]
    taken = [batch for batch in batches if sampler.takes(batch, None)]
    assert abs(len(taken) - ratio * len(batches)) <= 4 * (ratio * (1 - ratio) * len(batches)) ** 0.5
    # The same by its trace id, for whoever samples after us.
    for batch in batches[:1000]:
        assert (batch in taken) == (int(f"{batch}00000000"[-14:], 16) >= (1 - ratio) * 2**56)


def test_a_sender_who_says_whether_it_records_is_followed_if_that_is_wanted() -> None:
    def taken(ratio: float, *, parent_based: bool, sampled: bool) -> bool:
        sampler = Sampler(ratio, parent_based=parent_based)
        return bool(spans(event(Kind.DELIVERY, context=Context(sampled).variables), sampler=sampler))

    assert taken(0.0, parent_based=True, sampled=True)
    assert not taken(1.0, parent_based=True, sampled=False)
    assert not taken(0.0, parent_based=False, sampled=True)
    assert taken(1.0, parent_based=False, sampled=False)


def test_what_is_no_message_has_no_span() -> None:
    for kind in (Kind.REJECTION, Kind.ROUTE, Kind.TOKEN, Kind.HEARTBEAT, Kind.QUARANTINE):
        assert spans(event(kind)) == []
    assert spans(event(Kind.PERMANENT, batch_id="", id="")) == []


def test_a_context_variable_that_is_no_traceparent_changes_nothing() -> None:
    assert spans(event(Kind.DELIVERY, context={"traceparent": "x"})) == spans(event(Kind.DELIVERY))
