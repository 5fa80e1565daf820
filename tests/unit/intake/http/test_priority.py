"""A request says how urgent its message is, in JSON or in the query of a raw one."""

from __future__ import annotations

import msgspec
import pytest

from mcmt.config.settings import HttpTokenSettings
from mcmt.intake.http.problem import Problem
from mcmt.intake.http.submission import read_json, read_raw
from mcmt.message.priority import WORDS

TOKEN = HttpTokenSettings(name="shop", scopes=frozenset({"send"}))
MESSAGE = {"to": ["push@apn.example.com"], "parts": [{"media_type": "message/vnd.msys.apn", "json": {"aps": {}}}]}


def in_json(**more: str) -> int | None:
    return read_json(msgspec.json.encode({**MESSAGE, **more}), TOKEN, 1.0).priority


def in_query(*more: tuple[str, str]) -> int | None:
    return read_raw(b"Subject: x\r\n\r\n", "message/rfc822", [("to", "a@b.example"), *more], TOKEN, 1.0).priority


@pytest.mark.parametrize("word", WORDS)
def test_the_words_of_the_configuration_name_the_classes(word: str) -> None:
    assert in_json(priority=word) == in_query(("priority", word)) == WORDS[word]


def test_without_a_word_nothing_is_asked_for() -> None:
    assert in_json() is None
    assert in_query() is None


def test_another_word_is_refused_and_named() -> None:
    with pytest.raises(Problem) as refused:
        in_json(priority="urgent")
    assert refused.value.field == "priority"
    with pytest.raises(Problem) as refused:
        in_query(("priority", "urgent"))
    assert refused.value.field == "priority"
