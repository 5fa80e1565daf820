"""Problems: what they say to a client and to the ledger."""

from __future__ import annotations

import json

import pytest

from mcmt.errors import MessageError
from mcmt.intake.http.problem import TITLES, Problem, no_room, of_message, too_large


@pytest.mark.parametrize("status", TITLES)
def test_each_status_has_a_title_and_is_said_once(status: int) -> None:
    told = json.loads(Problem(status, "because", "to[0]").body(line=3, status=1))
    assert told == {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": "because",
        "field": "to[0]",
        "line": 3,
    }


@pytest.mark.parametrize(
    ("enhanced", "field"),
    [("5.1.1", "to"), ("5.1.7", "from"), ("5.5.3", "to"), ("5.6.0", "parts"), ("5.6.1", "parts"), ("5.3.4", "")],
)
def test_a_refusal_of_the_message_blames_the_field_that_it_is_about(enhanced: str, field: str) -> None:
    problem = of_message(MessageError(554, enhanced, "because"))
    assert (problem.status, problem.field, problem.enhanced) == (400, field, enhanced)
    assert of_message(MessageError(554, enhanced, "because"), "to[2]").field == "to[2]"


def test_the_ledger_has_the_field_with_the_reason() -> None:
    refusal = Problem(400, "because", "to[0]", enhanced="5.1.3").refusal
    assert (refusal.code, refusal.enhanced, refusal.text) == (400, "5.1.3", "to[0]: because")


def test_what_may_pass_says_when_to_come_again_and_what_does_not_says_nothing() -> None:
    assert no_room().headers == {"Retry-After": "1"}
    assert too_large(5).headers == {}
