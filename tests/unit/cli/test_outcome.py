"""When a message has ended, whatever the order in which its log lines come."""

from __future__ import annotations

import itertools

from mcmt.cli.outcome import MessageOutcome
from mcmt.control.protocol import LogLine

BATCH = "b1"


def line(kind: str, number: int = 1, *, ledger: bool = True, batch_id: str = BATCH, **fields: int) -> LogLine:
    return LogLine(
        logger="ledger" if ledger else "channel",
        ledger=ledger,
        kind=kind,
        id=f"{batch_id}-{number}",
        batch_id=batch_id,
        attempt=fields.get("attempt", 0),
        deliveries=fields.get("deliveries", 0),
        line=f"{'ledger' if ledger else 'channel'} {kind} {number}",
    )


def test_it_has_ended_when_the_reception_and_every_final_line_were_seen_in_any_order() -> None:
    lines = [line("R", deliveries=2), line("D", 1), line("P", 2)]
    for order in itertools.permutations(lines):
        outcome = MessageOutcome(BATCH)
        for seen in order:
            assert not outcome.complete
            outcome.take(seen)
        assert (outcome.complete, outcome.failed, outcome.pending) == (True, 1, 0)


def test_a_failed_attempt_is_no_end() -> None:
    outcome = MessageOutcome(BATCH)
    outcome.take(line("R", deliveries=1))
    outcome.take(line("T"))
    assert (outcome.complete, outcome.pending) == (False, 1)


def test_an_event_is_shown_once_by_its_channels_line() -> None:
    outcome = MessageOutcome(BATCH)
    shown = [outcome.take(line("D", ledger=False)), outcome.take(line("D"))]
    assert shown == ["channel D 1", None]


def test_an_event_that_only_the_main_log_has_is_shown_from_there() -> None:
    assert MessageOutcome(BATCH).take(line("R", deliveries=1)) == "ledger R 1"


def test_two_attempts_are_two_events() -> None:
    outcome = MessageOutcome(BATCH)
    assert outcome.take(line("T", attempt=0)) == outcome.take(line("T", attempt=1)) == "ledger T 1"


def test_other_messages_are_not_looked_at() -> None:
    outcome = MessageOutcome(BATCH)
    assert outcome.take(line("R", batch_id="b2", deliveries=1)) is None
    assert outcome.take(line("D", batch_id="b2")) is None
    assert (outcome.complete, outcome.pending) == (False, None)
