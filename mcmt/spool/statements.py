"""Statements over many rows at once: a call into SQLite for hundreds of rows, for the reason told in transaction.py."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import apsw

# Each is a statement that SQLite keeps prepared.
_ROWS_AT_ONCE = (256, 64, 16, 4, 1)


def execute_rows(connection: apsw.Connection, statement: tuple[str, int], values: list[Any]) -> None:
    """Run a statement over rows of so many values each, given end to end; its ``{rows}`` stands for them."""
    for text, some in _portions(statement, values):
        connection.execute(text, some)


def ask_rows(connection: apsw.Connection, statement: tuple[str, int], values: list[Any]) -> list[Any]:
    """The same of a statement that returns rows: all of them."""
    found: list[Any] = []
    for text, some in _portions(statement, values):
        found += connection.execute(text, some)
    return found


def _portions(statement: tuple[str, int], values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    text, width = statement
    start = 0
    for count in _ROWS_AT_ONCE:
        while len(values) - start >= count * width:
            yield _with_rows(text, width, count), values[start : start + count * width]
            start += count * width


@cache
def _with_rows(text: str, width: int, count: int) -> str:
    row = f"({','.join('?' * width)})"
    return text.format(rows=",".join([row] * count))
