"""What answers mean, and when the next attempt is."""

from __future__ import annotations

import pytest

from mcmt.webhooks.answers import LONGEST_PAUSE, Verdict, judge, pause, retry_after


def test_every_status_has_its_verdict() -> None:
    of_their_own = {410: Verdict.OFF, 413: Verdict.SMALLER} | dict.fromkeys(range(200, 300), Verdict.TAKEN)
    assert {status: judge(status) for status in range(600)} == dict.fromkeys(range(600), Verdict.LATER) | of_their_own


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("", 0.0),
        ("-7", 0.0),
        ("soon", 0.0),
        ("99999999999999999999", LONGEST_PAUSE),
        ("9" * 5000, 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("Fri, 99 Jan 1970 00:00:10 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_an_hour_at_most(value: str, seconds: float) -> None:
    assert retry_after(value, 40.0) == seconds


def test_pauses_double_up_to_the_longest_and_are_drawn_from_the_upper_half() -> None:
    assert [pause(row, 5.0, 300.0, lambda: 1.0) for row in (1, 2, 3, 7, 10**6)] == [5.0, 10.0, 20.0, 300.0, 300.0]
    assert pause(2, 5.0, 300.0, lambda: 0.0) == 5.0
