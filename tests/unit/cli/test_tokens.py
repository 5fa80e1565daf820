"""Files of gone tokens that are imported: what is read out of them, and what is told of those that are none."""

from __future__ import annotations

import io

import click
import pytest

from mcmt.cli.tokens import _read

HEAD = "domain,token,since\n"


def test_lines_of_json_and_csv_are_read_alike() -> None:
    written = '{"domain": "A.example", "token": "abcd", "since": 5, "state": "invalid"}\n\n'
    ((json,), (csv,)) = (
        list(_read(io.BytesIO(text.encode())))
        for text in (written, "state,since,token,domain\ninvalid,5,abcd,A.example\n")
    )
    assert json == csv
    assert (json.domain, json.token, json.since, json.state, json.source) == (
        "a.example",
        "abcd",
        5,
        "invalid",
        "import",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{HEAD}a.example,{'x' * 200_000},1\n", "line 2: field larger than field limit"),
        (f"{HEAD}a.example,abcd,1\na.example,abcd\n", "line 3: could not convert string to float"),
        (f"{HEAD}a.example,abcd,nan\n", "line 2: expected a domain, a device token, and a time"),
        (f'{HEAD}a.example,"ab\ncd",1\n', "line 3: expected a domain, a device token"),
        (f"{HEAD}a.example,ab\x1b[2Jcd,1\n", "line 2: expected a domain, a device token"),
        ("domain,token\na.example,abcd\n", "the first line names no column 'since'"),
        ('{"domain": "a"\n', "line 1: "),
    ],
)
def test_a_line_that_cannot_be_read_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(click.ClickException) as caught:
        list(_read(io.BytesIO(text.encode())))
    assert caught.value.message.startswith(told)
