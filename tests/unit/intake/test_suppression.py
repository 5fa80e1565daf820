"""Deliveries to tokens that are known to be gone end as they come in, where the stanza says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcmt.config.settings import Settings
from mcmt.intake.compose import Composed, compose, open_message
from mcmt.intake.suppression import Suppression
from mcmt.message.event import REGISTERED, Event, Kind
from mcmt.message.model import Envelope
from mcmt.spool.gone_tokens import StoredTokenTable
from mcmt.spool.port import GoneToken
from tests.support.manual_clock import ManualClock
from tests.unit.intake.server import make_channels, make_settings
from tests.unit.intake.test_compose import BATCH, NOW, mcmt

SINCE = NOW - 1000.0
DOMAIN = "apn.example.com"
TEXT = "5.1.6 [internal] device token gone since 1970-01-12T13:30:00Z"


@pytest.fixture
def table(tmp_path: Path) -> Iterator[StoredTokenTable]:
    table = StoredTokenTable.create(tmp_path / "spool", ManualClock())
    yield table
    table.close()


def suppressing(**changes: Any) -> Settings:
    settings = make_settings()
    stanza = msgspec.structs.replace(settings.domains[DOMAIN], suppress_gone_tokens=True, **changes)
    return msgspec.structs.replace(settings, domains={**settings.domains, DOMAIN: stanza})


def part(*tokens: str, fields: str = "") -> bytes:
    written = "".join(f"X-Device-Token: {token}\r\n" for token in tokens)
    return f"Content-Type: message/vnd.msys.apn\r\n\r\n{written}{fields}\r\n{{}}".encode()


def make(
    table: StoredTokenTable,
    data: bytes,
    *recipients: str,
    settings: Settings | None = None,
    sender: str = "app@example.com",
) -> Composed:
    return compose(
        settings or suppressing(),
        make_channels(),
        Envelope(sender, recipients or (f"u@{DOMAIN}",), "192.0.2.7", "c0ffee"),
        data,
        open_message(data, "allow"),
        {},
        "allow",
        BATCH,
        NOW,
        suppression=Suppression(table, ManualClock()),
    )


def told(events: Any) -> list[tuple[Kind, str, str, str]]:
    return [(event.kind, event.id, event.token, event.code) for event in events]


def test_of_several_tokens_those_that_are_gone_fail_and_the_others_keep_their_numbers(table: StoredTokenTable) -> None:
    table.learn([GoneToken(DOMAIN, "bb", SINCE)])
    message, deliveries, events, failures = make(table, mcmt(part("aa", "bb", "cc")))
    assert [(one.number, one.token) for one in deliveries] == [(1, "aa"), (3, "cc")]
    assert told(events) == [(Kind.RECEPTION, f"{BATCH}-1", "", ""), (Kind.PERMANENT, f"{BATCH}-2", "bb", "550")]
    assert events[0].deliveries == 3
    assert (events[1].text, events[1].gone_since, events[1].time) == (TEXT, SINCE, NOW)
    (failure,) = failures
    assert (failure.number, failure.token, failure.code, failure.text, failure.status, failure.return_path) == (
        *(2, "bb", "550", TEXT, "5.1.6", "app@example.com"),
    )
    assert len(message.parts) == 1


def test_a_message_whose_tokens_are_all_gone_is_accepted_and_holds_no_content(table: StoredTokenTable) -> None:
    table.learn([GoneToken(DOMAIN, "aa", SINCE), GoneToken(DOMAIN, "bb", SINCE, "invalid")])
    message, deliveries, events, failures = make(table, mcmt(part("aa", "bb")))
    assert (message.parts, list(deliveries)) == ((), [])
    assert [event.kind for event in events] == [Kind.RECEPTION, Kind.PERMANENT, Kind.PERMANENT]
    assert len(failures) == 2


def test_the_parts_own_return_path_hears_of_it_and_nobody_where_there_is_none(table: StoredTokenTable) -> None:
    table.learn([GoneToken(DOMAIN, "aa", SINCE)])
    own = make(table, mcmt(part("aa", fields="Return-Path: <ops@example.com>\r\n")))
    assert [failure.return_path for failure in own.failures] == ["ops@example.com"]
    assert list(make(table, mcmt(part("aa")), sender="").failures) == []
    assert list(make(table, mcmt(part("aa")), settings=suppressing(generate_bounces=False)).failures) == []


def test_another_domain_or_a_stanza_that_does_not_say_so_is_sent_to(table: StoredTokenTable) -> None:
    table.learn([GoneToken(DOMAIN, "aa", SINCE)])
    data = mcmt(part("aa"))
    assert len(make(table, data, settings=make_settings()).deliveries) == 1
    assert [one.domain for one in make(table, data, f"u@{DOMAIN}", "u@other.example.com").deliveries] == [
        "other.example.com"
    ]


@pytest.mark.parametrize(("registered", "sent"), [(SINCE - 1, 0), (SINCE, 0), (SINCE + 1, 1), (NOW * 2, 1)])
def test_what_was_registered_later_than_it_was_gone_is_sent_and_the_table_hears_of_it(
    table: StoredTokenTable, registered: float, sent: int
) -> None:
    table.learn([GoneToken(DOMAIN, "aa", SINCE)])
    composed = make(table, mcmt(part("aa", fields=f"Registered: {registered}\r\n")))
    assert len(composed.deliveries) == sent
    if sent:
        event: Event = composed.events[1]
        assert (event.kind, event.phase, event.token) == (Kind.TOKEN, REGISTERED, "aa")
        assert event.gone_since == min(registered, NOW), "nobody has registered in the future"


def test_a_table_that_cannot_be_read_holds_no_message_up(
    table: StoredTokenTable, caplog: pytest.LogCaptureFixture
) -> None:
    table.close()
    with caplog.at_level(logging.ERROR):
        assert len(make(table, mcmt(part("aa"))).deliveries) == 1
    assert "1 messages were not held against the gone tokens" in caplog.text
