"""The main log's columns and the reject log's shape, line by line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.eventlog.mainlog import MAINLOG, REJECTLOG
from mcmt.message.event import Event, Kind

COMMON: dict[str, Any] = {
    "time": 1_700_000_000.7,
    "id": "018b-1",
    "batch_id": "018b",
    "connection_id": "c7",
    "domain": "apn.example.com",
    "sender": "app@example.com",
    "recipient": "user@apn.example.com",
}
GOLDEN = [
    (
        Event(kind=Kind.RECEPTION, size=900, protocol="esmtp", remote_address="127.0.0.1", deliveries=3, **COMMON),
        "1700000000@018b-1@018b@c7@R@user@apn.example.com@app@example.com@127.0.0.1@900@esmtp@default@default@3",
    ),
    (
        Event(kind=Kind.DELIVERY, size=187, attempt=2, queued=1.2345, remote_address="17.1.2.3", **COMMON),
        "1700000000@018b-1@018b@c7@D@apn.example.com@187@default@default@2@1.234@17.1.2.3",
    ),
    (
        Event(
            kind=Kind.TRANSIENT,
            size=187,
            queued=30,
            remote_address="17.1.2.3",
            phase="sent",
            code="500",
            text="InternalServerError",
            **COMMON,
        ),
        "1700000000@018b-1@018b@c7@T@apn.example.com@187@default@default@sent@0@30.000@17.1.2.3"
        "@500 InternalServerError",
    ),
    (
        Event(
            kind=Kind.PERMANENT,
            code="554",
            text="5.4.7 [internal] exceeded max time without delivery",
            **COMMON,
        ),
        "1700000000@018b-1@018b@c7@P@apn.example.com@0@default@default@@0@0.000@"
        "@554 5.4.7 [internal] exceeded max time without delivery",
    ),
    (
        Event(
            kind=Kind.REJECTION,
            time=1_700_000_000.0,
            connection_id="c7",
            remote_address="127.0.0.1",
            phase="RCPT",
            code="550",
            text="5.1.2 no such domain",
            recipient="user@nowhere.example",
            sender="app@example.com",
        ),
        "1700000000@@@c7@J@127.0.0.1@RCPT@550@5.1.2 no such domain@user@nowhere.example@app@example.com",
    ),
    (
        Event(kind=Kind.ROUTE, time=1_700_000_000.0, domain="apn.example.com", phase="down", text="no answer"),
        "1700000000@@@@N@apn.example.com@down@no answer",
    ),
    (
        Event(kind=Kind.QUARANTINE, size=12, text="unreadable", **COMMON),
        "1700000000@018b-1@018b@c7@Q@apn.example.com@12@unreadable",
    ),
    (Event(kind=Kind.HEARTBEAT, time=1_700_000_000.0, channel="ec_logger.one"), "1700000000@@@@M"),
]


@pytest.mark.parametrize(("event", "line"), GOLDEN, ids=[event.kind.name.lower() for event, _ in GOLDEN])
def test_each_kind_has_its_columns(event: Event, line: str) -> None:
    assert MAINLOG[event.kind](event) == line


def test_the_main_log_has_every_kind_but_gone_tokens_whose_deliveries_it_has() -> None:
    assert set(MAINLOG) == set(Kind) - {Kind.TOKEN}


COLUMNS = {
    Kind.RECEPTION: 15,
    Kind.DELIVERY: 12,
    Kind.TRANSIENT: 14,
    Kind.PERMANENT: 14,
    Kind.REJECTION: 13,
    Kind.ROUTE: 8,
    Kind.QUARANTINE: 8,
    Kind.HEARTBEAT: 5,
}
TEXT = st.one_of(
    st.text(), st.text('@"\\\n\x85 a'), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)


@given(
    st.builds(
        Event,
        kind=st.sampled_from(sorted(MAINLOG)),
        time=st.just(1.0),
        **dict.fromkeys(("id", "batch_id", "connection_id", "domain", "sender", "recipient", "protocol"), TEXT),
        **dict.fromkeys(("remote_address", "code", "text", "phase"), TEXT),
    )
)
def test_splitting_at_the_at_sign_is_exact_whatever_the_input(event: Event) -> None:
    line = MAINLOG[event.kind](event)
    columns = line.split("@")
    assert len(columns) == COLUMNS[event.kind]
    assert columns[4] == event.kind.value
    assert len(f"{line}.".splitlines()) == 1
    line.encode()


def test_a_rejection_stands_in_the_reject_log_by_name() -> None:
    event = Event(
        kind=Kind.REJECTION,
        time=1_700_000_000.0,
        connection_id="c7",
        remote_address="127.0.0.1",
        phase="RCPT",
        code="550",
        text='5.1.2 no "such" domain',
        protocol="esmtp",
        context={"k": "a,b"},
    )
    assert REJECTLOG[Kind.REJECTION](event) == (
        '1700000000: R="127.0.0.1" L="" C="c7" PATH="default" PATH_GRP="default" P="RCPT" E=550 M=esmtp '
        "CTXCONN=[] CTXMESS=[k=a\\x2Cb] 5.1.2 no \\x22such\\x22 domain"
    )
    assert REJECTLOG[Kind.HEARTBEAT](Event(kind=Kind.HEARTBEAT, time=5.0)) == "5: Marker 1"
    assert set(REJECTLOG) == {Kind.REJECTION, Kind.HEARTBEAT}
