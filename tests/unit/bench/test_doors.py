"""The table of the doors counts device tokens as nginx logs them, and sends what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.document import section
from tests.bench.results import Goal, Table
from tests.bench.tables.doors import Arrivals, _api

LINE = '127.0.0.1 - - [23/Nov/2026:00:41:02 +0000] "POST /3/device/{} HTTP/2.0" 200 0 "-" "-"\n'


def test_arrivals_are_the_device_tokens_past_a_mark_each_as_often_as_it_came(tmp_path: Path) -> None:
    log = tmp_path / "tokens.log"
    log.write_text(LINE.format("ab"))
    arrivals = Arrivals(log)
    mark = arrivals.mark()
    with log.open("a") as file:
        file.write(LINE.format("cd") + LINE.format("cd") + LINE.format("ef")[:30])
    assert arrivals.since(mark) == [b"cd", b"cd"]


@pytest.mark.parametrize(("size", "requests"), [(1, 7), (3, 3)])
def test_each_number_is_sent_once_however_many_a_request(size: int, requests: int) -> None:
    made = _api(range(10, 17), size, keys=True)
    assert len(made) == requests
    assert len({request.partition(b"Idempotency-Key: ")[2].split(b"\r\n")[0] for request in made}) == requests
    lines = [line for request in made for line in request.partition(b"\r\n\r\n")[2].split(b"\n") if line]
    tokens = [token for line in lines for part in json.loads(line)["parts"] for token in part["tokens"]]
    assert tokens == [f"{number:064x}" for number in range(10, 17)]


def test_a_table_alone_is_said_as_it_stands_in_the_document() -> None:
    table = Table(
        "Doors", "how", ["a", "b"], [["1", "2"]], [Goal("g", "m", True)], date="2026", form="short", noise="n"
    )
    assert section(7, table) == "## 7 Doors\n\nhow\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n2026, short form; n.\n"
