"""What is counted of the events that the event log reads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mcmt.engine import bouncer
from mcmt.eventlog.tally import OTHER, Tally, class_of
from mcmt.intake import propeller
from mcmt.intake.apns_gateway import connection as apns_gateway
from mcmt.intake.beanstalkd import keeping as beanstalkd
from mcmt.intake.http import acceptance as http
from mcmt.intake.pyapns import door as pyapns
from mcmt.intake.xmpp import service as xmpp
from mcmt.message.event import DOORS, GONE, REGISTERED, Event, Kind, OutboxRow
from mcmt.message.model import Envelope


class Behind:
    """The table that stands behind."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.saved = 0

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        self.taken += [(shard, row.sequence) for row in rows]

    def save(self) -> None:
        self.saved += 1


def delivered(domain: str = "a.example", queued: float = 0.3, wire: float = 0.02) -> Event:
    return Event(kind=Kind.DELIVERY, time=1.0, domain=domain, queued=queued, wire=wire)


def tally(*domains: str, limit: int = 10) -> Tally:
    return Tally(Behind(), domains, limit)


def test_a_row_that_is_read_again_is_not_counted_again() -> None:
    counts = tally("a.example")
    rows = [OutboxRow(7, (delivered(), delivered())), OutboxRow(8, (delivered(),))]
    counts.take("0", rows[:1])
    counts.take("0", rows)
    counts.take("0", rows)
    assert counts.domains["a.example"].delivered == 3


def test_sequences_of_one_shard_mean_nothing_to_another() -> None:
    counts = tally("a.example")
    counts.take("0", [OutboxRow(7, (delivered(),))])
    counts.take("1", [OutboxRow(3, (delivered(),))])
    assert counts.domains["a.example"].delivered == 2


def test_what_stands_behind_is_given_every_row_every_time() -> None:
    behind = Behind()
    counts = Tally(behind, (), 10)
    for _ in range(2):
        counts.take("0", [OutboxRow(1, (delivered(),))])
    counts.save()
    assert (behind.taken, behind.saved) == ([("0", 1), ("0", 1)], 1)


def test_past_the_limit_all_domains_are_one() -> None:
    counts = tally("a.example", limit=2)
    for name in ("x.example", "y.example", "z.example", "a.example", ""):
        counts.take(name, [OutboxRow(1, (delivered(name),))])
    assert {name: one.delivered for name, one in counts.domains.items()} == {"a.example": 1, "x.example": 1, OTHER: 3}
    assert counts.name_of("y.example") == OTHER
    assert counts.name_of("x.example") == "x.example"
    assert len(counts.domains) == 3


def test_domains_of_the_configuration_come_first() -> None:
    counts = tally("a.example", "b.example", limit=2)
    counts.take("0", [OutboxRow(1, (delivered("first.example"), delivered("b.example")))])
    assert set(counts.domains) == {"a.example", "b.example", OTHER}


def test_each_kind_counts_as_what_it_is() -> None:
    counts = tally()
    name = "a.example"
    events = (
        Event(kind=Kind.RECEPTION, time=1.0, domain=name, deliveries=3, protocol="http"),
        delivered(),
        Event(kind=Kind.TRANSIENT, time=1.0, domain=name, code="500", wire=0.1),
        Event(kind=Kind.TRANSIENT, time=1.0, domain=name, code="451"),
        Event(kind=Kind.PERMANENT, time=1.0, domain=name, code="410", queued=90.0, wire=4.0),
        Event(kind=Kind.PERMANENT, time=1.0, domain=name, code="8"),
        Event(kind=Kind.ROUTE, time=1.0, domain=name, phase="down"),
        Event(kind=Kind.TOKEN, time=1.0, domain=name, phase=GONE),
        Event(kind=Kind.TOKEN, time=1.0, domain=name, phase=REGISTERED),
        Event(kind=Kind.REJECTION, time=1.0, code="550", protocol="esmtp"),
        Event(kind=Kind.REJECTION, time=1.0, text="[internal] 3 more"),
        Event(kind=Kind.QUARANTINE, time=1.0),
    )
    counts.take("0", [OutboxRow(1, events)])
    one = counts.domains[name]
    assert (one.receptions, one.accepted, one.delivered, one.tokens_gone) == (1, 3, 1, 1)
    assert one.transient == {"5xx": 1, "4xx": 1}
    assert one.permanent == {"4xx": 1, OTHER: 1}
    assert one.route == {"down": 1}
    assert (sum(one.delay.counts), sum(one.wire.counts)) == (3, 3)
    assert counts.rejections == {"550": 1, OTHER: 1}
    assert counts.receptions_by_door == {"http": 1}
    assert counts.rejections_by_door == {"esmtp": 1, OTHER: 1}
    assert counts.quarantined == 1
    (totals,) = counts.totals()
    assert (totals.accepted, totals.delivered, totals.transient, totals.permanent) == (3, 1, 2, 2)


def test_every_door_is_counted_by_its_own_word() -> None:
    doors = (apns_gateway, pyapns, propeller, http, beanstalkd, xmpp, bouncer)
    assert {Envelope("", ()).protocol, *(door.PROTOCOL for door in doors)} == set(DOORS)


def test_a_bucket_holds_its_bound() -> None:
    counts = tally()
    counts.take("0", [OutboxRow(1, tuple(delivered(queued=value) for value in (0.05, 0.051, 1e9)))])
    assert [number for number in counts.domains["a.example"].delay.counts if number] == [1, 1, 1]
    assert counts.domains["a.example"].delay.counts[0] == 1


@pytest.mark.parametrize(
    ("code", "class_"), [("410", "4xx"), ("503", "5xx"), ("8", OTHER), ("", OTHER), ("4\u0661\u0660", OTHER)]
)
def test_only_a_code_of_three_digits_has_a_class(code: str, class_: str) -> None:
    assert class_of(code) == class_
