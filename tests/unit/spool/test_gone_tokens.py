"""The table of gone tokens: learned from events, each once; looked up, listed, forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from mcmt.errors import SpoolError, SpoolUnusable
from mcmt.message.event import GONE, INVALID, REGISTERED, Event, Kind, OutboxRow
from mcmt.spool.gone_tokens import FILE, StoredGoneTokens, StoredTokenTable
from mcmt.spool.port import GoneToken, GoneTokens
from tests.support.manual_clock import ManualClock

DOMAIN = "apn.example.com"
SINCE = 1_600_000_000.0


def token(number: int) -> str:
    return f"{number:064x}"


def told(number: int, since: float = SINCE, phase: str = GONE, domain: str = DOMAIN) -> Event:
    return Event(
        kind=Kind.TOKEN,
        time=since + 5,
        id=f"{number:024x}-1",
        channel="apn",
        domain=domain,
        token=token(number),
        code="410",
        text="Unregistered",
        phase=phase,
        protocol="push",
        gone_since=since,
    )


def rows(first: int, *events: Event) -> list[OutboxRow]:
    """A row for each, with sequences from *first*."""
    return [OutboxRow(sequence, (event,)) for sequence, event in enumerate(events, first)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def table(tmp_path: Path, clock: ManualClock) -> Iterator[StoredTokenTable]:
    table = StoredTokenTable.create(tmp_path / "spool", clock)
    yield table
    table.close()


def listed(table: GoneTokens) -> list[str]:
    return [each.token for each in table.page(None, 0, 1000)]


def test_what_events_tell_is_there_for_every_process_once_it_is_saved(tmp_path: Path, table: StoredTokenTable) -> None:
    elsewhere = StoredGoneTokens.open(tmp_path / "spool")
    table.take("0", rows(1, told(1), told(2, domain="other.example.com")))
    assert elsewhere.since(DOMAIN, [token(1)]) == {}
    table.save()
    assert elsewhere.since(DOMAIN, [token(1), token(2), token(3)]) == {token(1): SINCE}
    (row,) = elsewhere.page(DOMAIN, 0, 10)
    assert row == GoneToken(
        DOMAIN, token(1), SINCE, "gone", 1_700_000_000.0, "410 Unregistered", "push", f"{1:024x}-1", row.number
    )
    elsewhere.close()


def test_a_row_that_is_read_again_after_a_crash_counts_once(tmp_path: Path, table: StoredTokenTable) -> None:
    """Or what was forgotten in between would come back."""
    table.take("0", rows(1, told(1)))
    table.take("1", rows(1, told(2)))
    table.save()
    assert table.forget(DOMAIN, [token(1), token(2)]) == 2
    again = StoredTokenTable.create(tmp_path / "spool", ManualClock())
    again.take("0", rows(1, told(1), told(3)))
    again.take("1", rows(1, told(2)))
    again.save()
    assert listed(again) == [token(3)]
    again.close()


def test_what_is_taken_and_not_saved_is_taken_again_after_a_crash(tmp_path: Path, table: StoredTokenTable) -> None:
    table.take("0", rows(1, told(1)))
    again = StoredTokenTable.create(tmp_path / "spool", ManualClock())
    again.take("0", rows(1, told(1)))
    again.save()
    assert listed(again) == [token(1)]
    again.close()


def test_a_save_that_the_disk_refuses_is_done_by_the_next_one(tmp_path: Path, table: StoredTokenTable) -> None:
    table.take("0", rows(1, told(1)))
    other = apsw.Connection(str(tmp_path / "spool" / FILE))
    other.execute("CREATE TRIGGER no BEFORE INSERT ON token BEGIN SELECT RAISE(ABORT, 'disk'); END")
    with pytest.raises(SpoolError, match="disk"):
        table.save()
    other.execute("DROP TRIGGER no")
    other.close()
    table.save()
    assert listed(table) == [token(1)]


def test_a_later_time_is_learned_anew_and_an_earlier_one_is_not(table: StoredTokenTable) -> None:
    table.take("0", rows(1, told(1), told(2)))
    table.save()
    (_, last) = table.page(None, 0, 10)
    table.take("0", rows(3, told(1, SINCE + 10), told(2, SINCE - 10), told(2)))
    table.save()
    assert table.since(DOMAIN, [token(1), token(2)]) == {token(1): SINCE + 10, token(2): SINCE}
    # Who has seen all of it is told the one that is news.
    assert [each.token for each in table.page(DOMAIN, last.number, 10)] == [token(1)]


def test_a_token_that_registered_later_is_gone_no_more(table: StoredTokenTable) -> None:
    table.take("0", rows(1, told(1), told(2), told(1, SINCE + 1, REGISTERED), told(2, SINCE, REGISTERED)))
    table.save()
    assert listed(table) == [token(2)]


def test_case_makes_no_difference(table: StoredTokenTable) -> None:
    table.learn([GoneToken(DOMAIN, "ABCD", SINCE)])
    assert table.since(DOMAIN, ["abcd"]) == {"abcd": SINCE}
    assert table.forget(DOMAIN, ["aBcD"]) == 1


def test_what_is_forgotten_before_it_was_saved_does_not_come_back(table: StoredTokenTable) -> None:
    table.take("0", rows(1, told(1)))
    assert table.forget(DOMAIN, [token(1)]) == 1
    table.save()
    assert listed(table) == []


def test_a_domain_is_forgotten_by_the_page_up_to_when_it_was_learned(
    table: StoredTokenTable, clock: ManualClock
) -> None:
    table.learn([GoneToken(DOMAIN, token(number), SINCE) for number in range(5)])
    clock.advance(60)
    table.learn([GoneToken(DOMAIN, token(9), SINCE), GoneToken("other.example.com", token(1), SINCE)])
    assert [table.forget_page(DOMAIN, clock.time(), 3) for _ in range(3)] == [3, 2, 0]
    assert listed(table) == [token(9), token(1)]


def test_a_message_of_ten_thousand_tokens_is_looked_up_in_a_table_of_many_without_a_long_statement(
    table: StoredTokenTable,
) -> None:
    table.learn(GoneToken(DOMAIN, token(number), SINCE) for number in range(0, 50_000, 5))
    asked = [token(number) for number in range(10_000)]
    began = time.process_time()
    found = table.since(DOMAIN, asked)
    assert time.process_time() - began < 1.0
    assert len(found) == 2000


def test_a_listing_goes_through_a_page_at_a_time(table: StoredTokenTable) -> None:
    table.learn(GoneToken(DOMAIN, token(number), SINCE) for number in range(25))
    found: list[GoneToken] = []
    while page := table.page(None, found[-1].number if found else 0, 10):
        found += page
    assert [each.token for each in found] == [token(number) for number in range(25)]


def test_a_file_of_another_program_or_a_later_version_is_refused(tmp_path: Path, table: StoredTokenTable) -> None:
    with apsw.Connection(str(tmp_path / "spool" / FILE)) as connection:
        connection.pragma("user_version", 99)
    with pytest.raises(SpoolUnusable, match="schema version 99"):
        StoredTokenTable.create(tmp_path / "spool", ManualClock())


def test_senders_are_told_of_what_is_gone_and_not_of_what_is_invalid_each_once(
    tmp_path: Path, table: StoredTokenTable
) -> None:
    """As the feedback service does, in whichever process it is."""
    door = StoredGoneTokens.open(tmp_path / "spool")
    table.take("0", rows(1, told(1), told(2, phase=INVALID), told(3), told(4, domain="other.example.com"), told(5)))
    table.save()
    first = door.unread(DOMAIN, 0, 2)
    assert [each.token for each in first] == [token(1), token(3)]
    assert [each.token for each in door.unread(DOMAIN, first[-1].number, 2)] == [token(5)]
    # Killed half-way, it begins anew; only what was told is told.
    assert len(door.unread(DOMAIN, 0, 10)) == 3
    door.told(DOMAIN, first[-1].number)
    assert [each.token for each in door.unread(DOMAIN, 0, 10)] == [token(5)]
    table.take("0", rows(6, told(1, SINCE + 60)))
    table.save()
    assert [each.token for each in door.unread(DOMAIN, 0, 10)] == [token(5), token(1)]
    assert len(door.unread("other.example.com", 0, 10)) == 1
    door.close()


def test_what_was_invalid_is_gone_once_the_gateway_says_so_and_never_the_other_way_round_for_an_older_word(
    table: StoredTokenTable,
) -> None:
    table.take("0", rows(1, told(1, phase=INVALID), told(1, SINCE - 60), told(1, SINCE - 60, phase=INVALID)))
    table.save()
    (row,) = table.page(DOMAIN, 0, 10)
    assert (row.state, row.since) == ("gone", SINCE - 60)
