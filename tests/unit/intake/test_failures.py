"""The budget of failed logins."""

from __future__ import annotations

import pytest

from mcmt.intake import limits
from mcmt.intake.failures import FailureBudget
from tests.unit.intake.test_listener import HandClock


def test_a_budget_is_spent_within_a_window_and_new_after_it() -> None:
    clock = HandClock()
    budget = FailureBudget(2, 600.0, clock)
    budget.spend("a")
    assert not budget.is_spent("a")
    clock.move(500)
    budget.spend("a")
    assert budget.is_spent("a")
    assert not budget.is_spent("b")
    clock.move(100)
    assert not budget.is_spent("a")
    budget.spend("a")
    assert not budget.is_spent("a")


def test_logins_that_were_right_cost_nothing() -> None:
    budget = FailureBudget(1, 600.0, HandClock())
    for _ in range(10):
        budget.spend("a")
        budget.give_back("a")
    assert not budget.is_spent("a")
    assert len(budget) == 0


def test_attempts_at_once_count_before_their_end_is_known() -> None:
    budget = FailureBudget(3, 600.0, HandClock())
    for _ in range(3):
        budget.spend("a")
    assert budget.is_spent("a")
    budget.give_back("a")
    assert not budget.is_spent("a")


def test_memory_is_bounded_whoever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTH_ADDRESSES", 100)
    budget = FailureBudget(1, 600.0, HandClock())
    for number in range(1000):
        budget.spend(str(number))
    assert len(budget) == 100
    assert budget.is_spent("999")
    assert not budget.is_spent("0")


def test_a_client_whose_window_has_passed_does_not_push_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTH_ADDRESSES", 2)
    clock = HandClock()
    budget = FailureBudget(1, 600.0, clock)
    budget.spend("a")
    clock.move(300)
    budget.spend("b")
    clock.move(400)
    budget.spend("a")
    assert budget.is_spent("b")
