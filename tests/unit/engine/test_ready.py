"""What is ready stands in lines: the urgent before the rest, each kind in order, and nobody waits for ever."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mcmt.engine.ready import LOWER_SHARE, Ready
from mcmt.message.model import Delivery, Part, Sender
from mcmt.message.priority import BULK, CLASSES, HIGH, NORMAL

FIRST = Delivery(0, 1, "d", "r", "t", 0, 1e9, Sender("b", 0.0, "", {}), Part("text/plain", (), b""))


def make(priorities: list[int], start: int = 1) -> list[Delivery]:
    return [msgspec.structs.replace(FIRST, row=row, priority=one) for row, one in enumerate(priorities, start)]


def test_what_is_urgent_goes_first_and_each_kind_in_order() -> None:
    ready = Ready()
    ready.extend(make([BULK, NORMAL, HIGH, BULK, NORMAL, HIGH]))
    assert [one.row for one in ready.take(10)] == [3, 6, 2, 5, 1, 4]
    assert len(ready) == 0


def test_one_of_ten_that_are_sent_is_of_a_lower_class_that_waits() -> None:
    ready = Ready()
    ready.extend(make([HIGH] * 200 + [NORMAL] * 50 + [BULK] * 50))
    batch = ready.take(100)
    assert Counter(one.priority for one in batch) == {HIGH: 82, NORMAL: 9, BULK: 9}
    assert [one.priority for one in batch[: LOWER_SHARE - 1]] == [HIGH] * (LOWER_SHARE - 1)


@given(st.lists(st.integers(0, 7), min_size=60, max_size=60))
def test_nothing_starves_however_few_of_what_is_offered_are_taken(taken: list[int]) -> None:
    """What was offered and not taken stands where it stood and has not counted."""
    ready = Ready()
    ready.extend(make([HIGH] * 500 + [BULK] * 50))
    sent: list[Delivery] = []
    for count in taken:
        batch = ready.take(40)
        ready.sent(batch, count)
        sent += batch[:count]
    lower = [place for place, one in enumerate(sent) if one.priority == BULK]
    assert lower == list(range(LOWER_SHARE - 1, len(sent), LOWER_SHARE))
    for kind in (HIGH, BULK):
        rows = [one.row for one in sent if one.priority == kind]
        assert rows == sorted(rows)


@given(st.lists(st.tuples(st.lists(st.sampled_from(CLASSES), max_size=8), st.integers(1, 9), st.integers(0, 9))))
def test_each_is_taken_once_and_each_kind_in_order(steps: list[tuple[list[int], int, int]]) -> None:
    ready = Ready()
    row = 1
    sent: list[Delivery] = []
    for priorities, limit, count in steps:
        ready.extend(make(priorities, row))
        row += len(priorities)
        batch = ready.take(limit)
        assert len(batch) <= limit
        ready.sent(batch, count)
        sent += batch[:count]
        assert len(sent) + len(ready) == row - 1
    sent += ready.take(row)
    assert sorted(one.row for one in sent) == list(range(1, row))
    for kind in CLASSES:
        rows = [one.row for one in sent if one.priority == kind]
        assert rows == sorted(rows)


def test_places_are_given_up_by_those_that_would_go_last() -> None:
    ready = Ready()
    ready.extend(make([HIGH, NORMAL, NORMAL, BULK, BULK]))
    assert [one.row for one in ready.give_up(3, HIGH)] == [5, 4, 3]
    assert [one.row for one in ready] == [1, 2]
    assert ready.give_up(3, NORMAL) == []


def test_what_is_taken_out_by_row_leaves_the_others_in_order() -> None:
    ready = Ready()
    ready.extend(make([BULK, HIGH, BULK, HIGH]))
    assert [one.row for one in ready.remove({1, 2, 9})] == [2, 1]
    assert [one.row for one in ready.take(9)] == [4, 3]
