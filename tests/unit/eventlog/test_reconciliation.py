"""The ledger's sums: what is proven, what is disproved and by which ids, and what they cost."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence

import pytest

from mcmt.eventlog.jsonline import compile_json
from mcmt.eventlog.mainlog import MAINLOG
from mcmt.eventlog.reconciliation import Account, Reconciliation
from mcmt.message.event import Event, Kind

BEGAN = 1_795_000_000.0
DOMAIN = "apn.example.com"


def batch(number: int, received: float = BEGAN) -> str:
    return f"{int(received * 1000):012x}7000{number:08x}"


def event(kind: Kind, batch_id: str, number: int = 1, **fields: object) -> Event:
    known = {"id": f"{batch_id}-{number}", "domain": DOMAIN, "recipient": f"user@{DOMAIN}", "remote_address": "::1"}
    more = {"deliveries": 1, "connection_id": "c1", "protocol": "esmtp"} if kind is Kind.RECEPTION else {}
    return Event(kind=kind, time=BEGAN, batch_id=batch_id, **{**known, **more, **fields})  # type: ignore[arg-type]  # a test's own words


def text(events: Sequence[Event]) -> list[bytes]:
    return [MAINLOG[each.kind](each).encode() for each in events]


def json(events: Sequence[Event]) -> list[bytes]:
    render = compile_json()
    return [render(each).encode() for each in events]


@pytest.fixture(params=[text, json])
def lines(request: pytest.FixtureRequest) -> Callable[[Sequence[Event]], list[bytes]]:
    """The main log in each of its formats."""
    found: Callable[[Sequence[Event]], list[bytes]] = request.param
    return found


def account(
    lines: list[bytes], due: Sequence[str] = (), waiting: Sequence[str] = (), still: Sequence[str] = (), **more: bool
) -> Account:
    sums = Reconciliation()
    sums.take(lines)
    sums.queue(due, waiting)
    return sums.account(BEGAN, still, **more)


def said(found: Account) -> list[tuple[str, str]]:
    return sorted((finding.id, finding.what) for finding in found.findings)


Lines = Callable[[Sequence[Event]], list[bytes]]


def test_what_ended_once_or_is_in_the_spool_is_accounted_for(lines: Lines) -> None:
    one, two, three, four = map(batch, range(4))
    found = account(
        lines(
            [
                *(event(Kind.RECEPTION, each) for each in (one, two, three, four)),
                event(Kind.TRANSIENT, one, code="500", text="@@@@D@"),
                event(Kind.DELIVERY, one),
                event(Kind.PERMANENT, two, code="410", text="Unregistered"),
                Event(kind=Kind.HEARTBEAT, time=BEGAN, channel="ec_logger.x"),
                Event(kind=Kind.ROUTE, time=BEGAN, domain=DOMAIN, phase="down", text="refused"),
                Event(kind=Kind.REJECTION, time=BEGAN, code="550", text="5.1.2 no", recipient='a@"@D@P@b'),
            ]
        ),
        due=[f"{three}-1"],
        waiting=[f"{four}-1"],
    )
    assert (found.accepted, found.delivered, found.failed, found.due, found.waiting) == (4, 1, 1, 1, 1)
    assert (found.unknown, found.unreadable, found.findings, found.wrong) == (0, 0, [], False)


def test_what_is_held_by_hand_is_counted_as_held_and_not_missed() -> None:
    one, two = map(batch, range(2))
    sums = Reconciliation()
    sums.take(text([event(Kind.RECEPTION, each) for each in (one, two)]))
    sums.queue([f"{one}-1"], (), [f"{two}-1"])
    found = sums.account(BEGAN)
    assert (found.accepted, found.due, found.held, found.unknown, found.findings) == (2, 1, 1, 0, [])


@pytest.mark.parametrize(
    ("events", "queued", "what"),
    [
        ("R", False, "missing"),
        ("RDD", False, "delivered twice"),
        ("RPP", False, "failed twice"),
        ("RDP", False, "delivered and failed"),
        ("RRD", False, "accepted twice"),
        ("RD", True, "ended and still queued"),
        ("D", False, "no reception"),
        ("P", False, "no reception"),
        ("", True, "no reception"),
    ],
)
@pytest.mark.parametrize("number", [1, 3])
def test_what_is_wrong_is_named_with_its_id(lines: Lines, events: str, queued: bool, what: str, number: int) -> None:
    good, bad = batch(1), batch(2)
    id_ = f"{bad}-{number}"
    found = account(
        lines(
            [
                event(Kind.RECEPTION, good),
                event(Kind.DELIVERY, good),
                *(event(Kind(kind), bad, number) for kind in events),
            ]
        ),
        due=[id_] if queued else [],
        still=[id_] if queued else [],
    )
    assert said(found) == [(id_, what)]
    assert found.wrong


def test_a_delivery_that_ended_while_the_spool_was_listed_is_no_alarm(lines: Lines) -> None:
    one = batch(1)
    sums = Reconciliation()
    sums.take(lines([event(Kind.RECEPTION, one)]))
    sums.queue([f"{one}-1"], [])
    sums.take(lines([event(Kind.DELIVERY, one)]), known=True)
    assert sums.ended_and_queued() == {f"{one}-1"}
    found = sums.account(BEGAN)
    assert (found.accepted, found.delivered, found.due, found.findings) == (1, 1, 0, [])


def test_what_came_after_the_log_was_read_waits_for_the_next_audit(lines: Lines) -> None:
    one, two = batch(1), batch(2)
    sums = Reconciliation()
    sums.take(lines([event(Kind.RECEPTION, one, 1, deliveries=2)]))
    sums.queue([], [])
    later = [
        event(Kind.RECEPTION, one, 3),  # the last line of a message's reception that was read in part
        *(event(Kind.DELIVERY, one, number) for number in (1, 2, 3)),
        event(Kind.RECEPTION, two),
        event(Kind.DELIVERY, batch(3)),
        Event(kind=Kind.QUARANTINE, time=BEGAN, id=f"{two}-1", batch_id=two, text="delivery row 7 cannot be read"),
    ]
    sums.take(lines(later), known=True)
    found = sums.account(BEGAN)
    assert (found.accepted, found.delivered, found.unknown, found.findings) == (3, 3, 0, [])


def test_each_recipient_brings_its_deliveries_and_each_delivery_has_a_state_of_its_own(lines: Lines) -> None:
    one = batch(1)
    found = account(
        lines(
            [
                event(Kind.RECEPTION, one, 1, deliveries=3),
                event(Kind.RECEPTION, one, 4),
                event(Kind.RECEPTION, one, 5, deliveries=9_996),
                event(Kind.PERMANENT, one, 4, code="554", text="5.6.1 no part"),
                *(event(Kind.DELIVERY, one, number) for number in range(5, 10_001)),
                event(Kind.DELIVERY, one, 3),
                event(Kind.DELIVERY, one, 3),
            ]
        ),
        waiting=[f"{one}-1"],
    )
    assert (found.accepted, found.delivered, found.failed, found.waiting) == (10_000, 9_997, 1, 1)
    assert said(found) == [(f"{one}-2", "missing"), (f"{one}-3", "delivered twice")]


def test_a_reception_counted_twice_names_every_delivery_that_it_doubles(lines: Lines) -> None:
    one = batch(1)
    both = [event(Kind.RECEPTION, one, 1, deliveries=2), event(Kind.RECEPTION, one, 2, deliveries=2)]
    found = account(lines([*both, *(event(Kind.DELIVERY, one, number) for number in (1, 2, 3))]))
    assert said(found) == [(f"{one}-2", "accepted twice")]


def test_receptions_in_a_file_that_is_gone_are_counted_apart(lines: Lines) -> None:
    before, since = batch(1, BEGAN - 0.002), batch(2, BEGAN)
    found = account(
        lines(
            [
                event(Kind.DELIVERY, before, 1),
                event(Kind.PERMANENT, before, 2, code="410", text="Unregistered"),
                event(Kind.DELIVERY, since),
            ]
        ),
        waiting=[f"{before}-3"],
    )
    assert (found.accepted, found.earlier.delivered, found.earlier.failed, found.earlier.queued) == (0, 1, 1, 1)
    assert said(found) == [(f"{since}-1", "no reception")]


def test_a_report_without_a_way_to_its_sender_is_no_delivery(lines: Lines) -> None:
    given_up = event(Kind.PERMANENT, batch(1), code="554", text="5.4.4", connection_id=batch(2), protocol="internal")
    found = account(lines([given_up]))
    assert (found.undeliverable, found.accepted, found.findings) == (1, 0, [])


def quarantined(batch_id: str, number: int, source: str) -> Event:
    id_ = f"{batch_id}-{number}" if number else ""
    return Event(kind=Kind.QUARANTINE, time=BEGAN, id=id_, batch_id=batch_id, text=f"{source} row 7 cannot be read")


@pytest.mark.parametrize(("number", "source"), [(2, "delivery"), (0, "delivery"), (0, "message")])
def test_what_is_in_quarantine_is_named_and_accounted_for(lines: Lines, number: int, source: str) -> None:
    """Also where the row has lost its number: then it is the delivery of its message that is nowhere else."""
    one = batch(1)
    events = [event(Kind.RECEPTION, one, 1, deliveries=3), event(Kind.DELIVERY, one, 3)]
    found = account(lines([*events, quarantined(one, number, source)]), due=[f"{one}-1"])
    assert (found.accepted, found.delivered, found.due, found.quarantined, found.unknown) == (3, 1, 1, 1, 0)
    assert (said(found), found.wrong) == ([(f"{one}-2", "quarantined")], False)


def test_a_row_that_cannot_be_read_and_waits_in_the_spool_is_its_messages(lines: Lines) -> None:
    one = batch(1)
    found = account(lines([event(Kind.RECEPTION, one, 1, deliveries=2)]), waiting=[f"{one}-2", f"{one}-0"])
    assert (said(found), found.wrong) == ([(f"{one}-1", "quarantined")], False)


def test_a_row_put_back_from_quarantine_is_where_it_ended(lines: Lines) -> None:
    one = batch(1)
    events = [event(Kind.RECEPTION, one), quarantined(one, 1, "delivery"), event(Kind.DELIVERY, one)]
    found = account(lines(events))
    assert (found.delivered, found.quarantined, found.findings) == (1, 0, [])


def test_rows_that_nobody_can_name_are_counted_and_excuse_nothing(lines: Lines) -> None:
    one = batch(1)
    events = [event(Kind.RECEPTION, one), quarantined("", 0, "delivery"), quarantined("", 0, "outbox")]
    found = account(lines(events), due=["-1"])
    assert (found.unnamed, found.lost_rows, found.wrong) == (2, 1, True)


def test_without_the_spool_what_has_not_ended_is_unknown_and_not_wrong(lines: Lines) -> None:
    one = batch(1)
    found = account(lines([event(Kind.RECEPTION, one)]), queue_known=False)
    assert (found.unknown, said(found), found.wrong) == (1, [(f"{one}-1", "not ended")], False)


def test_lines_that_are_none_are_counted_and_passed_over() -> None:
    one = batch(1)
    odd = [
        b"",
        b"\xff\x00",
        b"{",
        b'{"type": "D", "id": 7}',
        b"1@2@3@4@Z@5",
        f"1@{one}-x@{one}@@D@5".encode(),
        f"1@{one}-99999999999@{one}@@D@5".encode(),
        f"1@{one}-1@{one}@c@R@5@many".encode(),
        f"1795000000.0@D@{one}-1@[internal] cannot be rendered: KeyError".encode(),
    ]
    found = account([*odd, *text([event(Kind.RECEPTION, one), event(Kind.DELIVERY, one)])])
    assert (found.unreadable, found.accepted, found.delivered, found.findings) == (len(odd), 1, 1, [])


def test_a_log_of_both_formats_is_one_ledger() -> None:
    one = batch(1)
    assert not account(text([event(Kind.RECEPTION, one)]) + json([event(Kind.DELIVERY, one)])).findings


def test_a_message_costs_little_memory_and_a_line_little_time() -> None:
    """A million messages are to take 300 MB and 15 s: here a fiftieth of them."""
    count = 20_000

    def made() -> Iterator[list[bytes]]:
        for start in range(0, count, 500):
            ids = [batch(number, BEGAN + number) for number in range(start, start + 500)]
            yield text([event(kind, each) for each in ids for kind in (Kind.RECEPTION, Kind.DELIVERY)])

    blocks = list(made())
    sums = Reconciliation()
    before = time.process_time()
    for block in blocks:
        sums.take(block)
    took = time.process_time() - before
    assert sums.account(BEGAN).delivered == count
    assert took < 15.0 / 1_000_000 * count * 2  # twice: the machine is shared

    sums = Reconciliation()
    tracemalloc.start()
    for block in blocks:
        sums.take([bytes(bytearray(line)) for line in block])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / count < 200
