"""How urgent a message is, as its sender says it."""

from __future__ import annotations

import pytest

from mcmt.message.priority import BULK, CLASSES, HIGH, NORMAL, WORDS, class_of, read_priority


def test_a_larger_class_goes_first() -> None:
    assert CLASSES == (HIGH, NORMAL, BULK) == tuple(sorted(CLASSES, reverse=True))
    assert tuple(WORDS.values()) == CLASSES


@pytest.mark.parametrize(("value", "expected"), [(9, HIGH), (1, HIGH), (0, NORMAL), (-1, BULK), (-9, BULK)])
def test_what_is_above_zero_is_urgent_and_what_is_below_it_is_bulk(value: int, expected: int) -> None:
    """RFC 6710 has 19 levels, and 0 where nothing is said."""
    assert class_of(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", HIGH), ("+3", HIGH), ("-2", BULK), ("0", NORMAL), (" 4 (urgent)", HIGH), ("(a) -4 (b) (c)", BULK)],
)
def test_the_header_field_is_a_number_with_comments(value: str, expected: int) -> None:
    assert read_priority((("subject", "x"), ("mt-priority", value))) == expected


@pytest.mark.parametrize("value", ["", "urgent", "10", "-12", "3 4", "3;", "--3", "3 (urgent", "\u0663"])
def test_what_is_no_priority_asks_for_none(value: str) -> None:
    """RFC 6758: a field that cannot be read is as good as none, and no reason to refuse a mail."""
    assert read_priority((("mt-priority", value),)) is None


def test_without_the_field_nothing_is_asked_for() -> None:
    assert read_priority((("x-priority", "1"),)) is None
