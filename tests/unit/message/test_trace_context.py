"""``traceparent``, as W3C Trace Context has it."""

from __future__ import annotations

import pytest

from mcmt.message.mime import context_variables
from mcmt.message.trace_context import Parent, kept, parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"


def test_the_recommendations_own_example_is_read() -> None:
    assert parent_of(GIVEN) == Parent(TRACE, SPAN, True)
    assert parent_of(f"00-{TRACE}-{SPAN}-00") == Parent(TRACE, SPAN, False)
    # 3.2.2.5: of the flags only the one that is known counts.
    assert parent_of(f"00-{TRACE}-{SPAN}-fe") == Parent(TRACE, SPAN, False)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        GIVEN.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{GIVEN}-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}x-{SPAN}-01",
        f"{GIVEN}\n",
        f" {GIVEN}",
    ],
)
def test_what_is_not_one_counts_as_not_given(value: str) -> None:
    assert parent_of(value) is None
    assert kept(value) == ""


def test_of_a_later_version_what_is_known_is_read() -> None:
    assert parent_of(f"01-{TRACE}-{SPAN}-01-what-comes-then") == Parent(TRACE, SPAN, True)
    assert kept(f"01-{TRACE}-{SPAN}-01-{'x' * 900}") == f"01-{TRACE}-{SPAN}-01"
    assert parent_of(kept(f"01-{TRACE}-{SPAN}-01-x")) == Parent(TRACE, SPAN, True)


def test_a_header_field_is_a_context_variable_of_the_message() -> None:
    headers = (("subject", "x"), ("traceparent", GIVEN), ("x-mcmt-context", "A=b"))
    assert context_variables(headers) == {"traceparent": GIVEN, "A": "b"}
    assert context_variables((("traceparent", "nonsense"),)) == {}
