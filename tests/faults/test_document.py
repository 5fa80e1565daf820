"""The document says what the rows hold."""

from __future__ import annotations

from pathlib import Path

from tests.faults.document import table


def test_the_table_of_the_document_is_the_one_that_is_tested() -> None:
    document = Path(__file__).parents[2] / "docs" / "security.md"
    assert table() in document.read_text("utf-8"), "python -m tests.faults.document prints it anew"
