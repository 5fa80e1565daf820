"""The table of docs/security.md, made of the rows: ``python -m tests.faults.document`` prints it."""

from __future__ import annotations

from tests.faults.row import Row
from tests.faults.table import SECTIONS


def _line(row: Row) -> str:
    comes_to = "; ".join(dict.fromkeys(each.words for each in row.expect if each.words))
    place, _, what = row.defence.line.partition(": ")
    return f"| {row.name} | {comes_to} | `{place}`: {what} |"


def table() -> str:
    """Every row, in markdown."""
    parts = []
    for title, rows in SECTIONS.items():
        head = f"### {title}\n\n| fault | what comes of it | what keeps it so |\n|---|---|---|\n"
        parts.append(head + "\n".join(map(_line, rows)) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(table())
