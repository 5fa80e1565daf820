"""Lines of a main log, read back, found and summed up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.eventlog.jsonline import compile_json
from mcmt.eventlog.ledger import OUTCOMES, Entry, parse
from mcmt.eventlog.mainlog import MAINLOG
from mcmt.eventlog.search import Search, Wanted, time_of
from mcmt.eventlog.summary import OTHERS, REASONS, Summary
from mcmt.eventlog.tokens import compile_tokens, written
from mcmt.message.event import Event, Kind

TOKEN = "0123456789abcdef" * 4
BATCH = "01a2048fb4ae70d48ac71a7a"


def event(kind: Kind, **fields: object) -> Event:
    given: dict[str, object] = {
        "kind": kind,
        "time": 1_795_372_856.0,
        "id": f"{BATCH}-1",
        "batch_id": BATCH,
        "channel": "apn",
        "domain": "apn.example.com",
        "sender": "app@example.com",
        "recipient": "user@apn.example.com",
        "token": TOKEN,
        **fields,
    }
    return Event(**given)  # type: ignore[arg-type] # as given


def text(event: Event) -> bytes:
    return MAINLOG[event.kind](event).encode()


def json(event: Event) -> bytes:
    return compile_json()(event).encode()


EVENTS = [
    event(Kind.RECEPTION, deliveries=1, recipient="user@APN.example.com"),
    event(Kind.DELIVERY, queued=0.25),
    event(Kind.TRANSIENT, code="500", text="Internal@Server", queued=0.5),
    event(Kind.PERMANENT, code="410", text="Unregistered", queued=2.0),
    event(Kind.REJECTION, id="", batch_id="", code="550", text="5.1.2 no route"),
    event(Kind.ROUTE, id="", batch_id="", phase="down", text="connection refused"),
    event(Kind.QUARANTINE, text="damaged"),
]


@pytest.mark.parametrize("write", [text, json])
@pytest.mark.parametrize("one", EVENTS, ids=lambda one: one.kind.name)
def test_every_kind_is_read_back_from_both_formats(one: Event, write: object) -> None:
    entry = parse((text if write is text else json)(one))
    assert entry is not None
    assert (entry.type, entry.time, entry.id, entry.batch_id) == (one.kind.value, one.time, one.id, one.batch_id)
    assert entry.domain == "apn.example.com"
    if one.kind in (Kind.DELIVERY, Kind.TRANSIENT, Kind.PERMANENT):
        assert entry.queued == one.queued
    if one.kind is Kind.PERMANENT:
        assert entry.reason == "410 Unregistered"
    if one.kind is Kind.ROUTE:
        assert entry.reason == "down connection refused"


@given(st.one_of(st.binary(), st.text(alphabet='0123456789@RDTPJNQM.{}":,').map(str.encode)))
def test_whatever_a_line_is_it_is_an_entry_or_none(line: bytes) -> None:
    assert parse(line) is None or isinstance(parse(line), Entry)
    assert isinstance(time_of(line), float)
    Search(Wanted(domain="x", since=1.0), main=True).among([line])
    Summary().take([line])


def test_a_heartbeat_is_no_entry() -> None:
    beat = Event(kind=Kind.HEARTBEAT, time=1.0)
    assert parse(text(beat)) is None
    assert parse(json(beat)) is None


@pytest.mark.parametrize("write", [text, json])
def test_a_search_finds_what_all_filters_mean_and_nothing_else(write: object) -> None:
    make = text if write is text else json
    lines = [make(one) for one in EVENTS]

    def kinds(**wanted: object) -> str:
        found = Search(Wanted(**wanted), main=True).among(lines)  # type: ignore[arg-type] # as given
        return "".join(entry.type for line in found if (entry := parse(line)))

    assert kinds() == "RDTPJNQ"
    assert kinds(id=BATCH) == "RDTPQ"
    assert kinds(id=f"{BATCH}-1", outcomes=frozenset({"delivered"})) == "D"
    assert kinds(id=f"{BATCH}-") == kinds(id=BATCH[:-1]) == ""
    assert kinds(domain="apn.example.com") == "RDTPJNQ"
    assert kinds(domain="example.com") == ""
    assert kinds(outcomes=frozenset({"transient", "permanent"})) == "TP"
    assert kinds(text="Unregistered") == "P"
    assert kinds(since=1_795_372_857.0) == kinds(until=1_795_372_855.0) == ""
    assert kinds(since=1_795_372_855.0, until=1_795_372_857.0) == "RDTPJNQ"


@pytest.mark.parametrize("way", ["full", "masked", "hash"])
@pytest.mark.parametrize("given_", [TOKEN, TOKEN.upper()])
def test_a_token_is_found_however_the_log_writes_it(way: str, given_: str) -> None:
    hide = compile_tokens(way) or (lambda each: each)
    lines = [json(hide(event(Kind.DELIVERY, token=token))) for token in (TOKEN, TOKEN.upper(), "f" * 64)]
    assert list(Search(Wanted(token=written(given_, way)), main=True).among(lines)) == lines[:2]
    assert written(given_, "none") == frozenset()


def test_every_outcome_has_a_letter_of_its_own() -> None:
    assert len(set(OUTCOMES.values())) == len(OUTCOMES)


@pytest.mark.parametrize(
    ("line", "time"),
    [
        (b"1795372856@D@x", 1795372856.0),
        (b'1795372843: R="127.0.0.1"', 1795372843.0),
        (b'{"type":"D","time":1795372843.5,"id":"x"}', 1795372843.5),
        (b"own format", 0.0),
        (b"", 0.0),
    ],
)
def test_the_time_of_a_line(line: bytes, time: float) -> None:
    assert time_of(line) == time


def test_a_summary_counts_by_domain_outcome_and_reason() -> None:
    sums = Summary()
    sums.take([text(one) for one in EVENTS] * 3 + [b"junk"])
    rows = {(row.outcome, row.reason): row.count for row in sums.rows}
    assert rows["permanent", "410 Unregistered"] == 3
    assert rows["delivered", ""] == 3
    assert [row.outcome for row in sums.rows] == list(OUTCOMES), "in the order of a message's life"
    assert sums.totals == dict.fromkeys(OUTCOMES, 3)
    assert sum(sums.delays) == 6, "final answers alone"
    assert sums.first == sums.last == 1_795_372_856.0


def test_a_summary_of_very_many_reasons_is_bounded() -> None:
    sums = Summary()
    sums.take(text(event(Kind.PERMANENT, code="554", text=f"{number}")) for number in range(REASONS + 500))
    assert len(sums.rows) == REASONS + 1
    assert {row.reason: row.count for row in sums.rows}[OTHERS] == 500


def test_reasons_that_differ_by_the_message_that_they_name_are_one() -> None:
    sums = Summary()
    sums.take(text(event(Kind.PERMANENT, code="554", text=f"report of {number:024x}: 1")) for number in range(3))
    assert [(row.reason, row.count) for row in sums.rows] == [("554 report of ...: 1", 3)]
