"""Wall time as expiry sees it."""

from __future__ import annotations

from mcmt.engine.steady_time import HOLD, TOLERANCE, SteadyTime
from tests.support.manual_clock import ManualClock


def test_it_follows_the_clock() -> None:
    clock = ManualClock()
    steady = SteadyTime(clock)
    clock.advance(3600)
    assert steady.now() == clock.time()


def test_a_jump_forward_is_not_believed_until_it_has_held() -> None:
    clock = ManualClock()
    steady = SteadyTime(clock)
    before = clock.time()
    clock.jump(86_400)
    assert steady.now() == before
    clock.advance(HOLD - 1)
    assert steady.now() == before + HOLD - 1
    clock.advance(2)
    assert steady.now() == clock.time()


def test_a_jump_that_is_taken_back_never_counts() -> None:
    clock = ManualClock()
    steady = SteadyTime(clock)
    clock.jump(86_400)
    steady.now()
    clock.advance(HOLD / 2)
    clock.jump(-86_400)
    assert steady.now() == clock.time()
    clock.jump(86_400)
    steady.now()
    clock.advance(HOLD / 2 + 1)
    assert steady.now() == clock.time() - 86_400, "the time that the first jump held must not count for the second"


def test_time_that_goes_back_or_drifts_is_believed_at_once() -> None:
    clock = ManualClock()
    steady = SteadyTime(clock)
    clock.jump(-500)
    assert steady.now() == clock.time()
    clock.jump(TOLERANCE - 1)
    assert steady.now() == clock.time()


def test_a_second_jump_has_to_hold_as_long_as_the_first() -> None:
    clock = ManualClock()
    steady = SteadyTime(clock)
    before = clock.time()
    clock.jump(3_600)
    steady.now()
    clock.advance(HOLD - 1)
    clock.jump(86_400 * 365)
    steady.now()
    clock.advance(2)
    assert steady.now() == before + HOLD + 1
    clock.advance(HOLD)
    assert steady.now() == clock.time()
