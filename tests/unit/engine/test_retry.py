"""The retry schedule."""

from __future__ import annotations

import pytest

from mcmt.engine.retry import JITTER, retry_delay


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [(1, 30), (2, 60), (3, 120), (5, 480), (6, 900), (7, 900), (10_000, 900)],
)
def test_the_nth_retry_waits_twice_as_long_as_the_one_before_up_to_the_cap(attempts: int, expected: float) -> None:
    assert retry_delay(attempts, 30, 900, lambda: 0.0) == expected


def test_jitter_only_ever_adds_and_is_bounded() -> None:
    assert retry_delay(1, 30, 900, lambda: 0.999) == pytest.approx(30 * (1 + JITTER * 0.999))


def test_an_interval_above_the_cap_is_kept() -> None:
    assert retry_delay(3, 50, 10, lambda: 0.0) == 50
