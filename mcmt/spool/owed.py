"""What senders are owed, as a transaction changes it: failures come in, and go when they are reported.

A report is a row for each message and return path; its failures are rows of their own, with ids that only grow, so
that a report which was read up to some id lets go exactly of what it told. It is due when its message is finished, or
some time after the first of its failures (mcmt/message/failure.py). A message with an owed report keeps its row, which
has the envelope and the header fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from mcmt.errors import SpoolError
from mcmt.message.failure import INTERNAL, Failure
from mcmt.spool.rows import due_at, encode_failure
from mcmt.spool.schema import ids
from mcmt.spool.statements import execute_rows

_REPORT = (
    "INSERT INTO report (message, return_path, due) SELECT column1, column2, column3 FROM (VALUES {rows}) WHERE true"
    " ON CONFLICT DO NOTHING",
    3,
)
# The last answer is taken over from the delivery, which is still there.
_FAILURE = (
    "INSERT INTO failure (id, report, due, data, last)"
    " SELECT new.column1, report.id, new.column4, new.column5,"
    " ifnull((SELECT last FROM delivery WHERE row = new.column6), '')"
    " FROM (VALUES {rows}) AS new"
    " CROSS JOIN report ON report.message = new.column2 AND report.return_path = new.column3",
    6,
)
_TOLD = (
    "DELETE FROM failure WHERE id IN (SELECT failure.id FROM (VALUES {rows}) AS new"
    " CROSS JOIN failure ON failure.report = new.column1 AND failure.id <= new.column2)",
    2,
)
_AGAIN = (
    "UPDATE report SET due = (SELECT due FROM failure WHERE report = report.id ORDER BY id LIMIT 1)"
    " WHERE id IN carray(?1) AND due > 0 AND EXISTS (SELECT 1 FROM failure WHERE report = report.id)"
)
_DONE = (
    "DELETE FROM report WHERE id IN carray(?1) AND NOT EXISTS (SELECT 1 FROM failure WHERE report = report.id)"
    " RETURNING message"
)
_LET_GO = (
    "DELETE FROM message WHERE id IN carray(?1) AND pending = 0"
    " AND NOT EXISTS (SELECT 1 FROM report WHERE message = message.id)"
)
_FINISHED = "UPDATE report SET due = 0 WHERE message IN carray(?1) RETURNING message"
_LATE = (
    "SELECT delivery.row, delivery.message FROM delay JOIN delivery ON delivery.row = delay.row"
    " WHERE delay.row IN carray(?1) ORDER BY delay.row"
)
_NOT_LATE = "DELETE FROM delay WHERE row IN carray(?1)"
_KEPT = "UPDATE message SET pending = 0 WHERE id IN carray(?1)"


class Owed:
    """What the jobs of one transaction want of reports."""

    def __init__(self) -> None:
        self._reports: dict[tuple[int, str], int] = {}
        self._failures: list[Any] = []
        self._late: dict[int, tuple[int, Failure | None]] = {}
        self._told: dict[int, int] = {}
        self._count = 0

    def fail(self, key: int, message: int, row: int, failure: Failure) -> None:
        """A failure of a delivery, or of a recipient that has none (row 0); *key* is larger than any before."""
        due = due_at(failure.tell_by)
        path = failure.return_path
        self._reports.setdefault((message, path), due)
        # What a gateway says itself needs no word of what it said before.
        before = row if INTERNAL in failure.text and not failure.last else 0
        self._failures += (key, message, path, due, encode_failure(failure), before)

    def warn(self, key: int, row: int, failure: Failure | None) -> None:
        """The delivery *row* is late; None: and nobody is told."""
        self._late[row] = key, failure

    def tell(self, report: int, through: int, count: int) -> None:
        """The *count* failures of a report up to id *through* are told."""
        if report in self._told:
            raise SpoolError("a report was made twice")
        self._told[report] = through
        self._count += count

    def insert(self, connection: apsw.Connection) -> None:
        """Keep the failures. Before the deliveries go."""
        if self._late:
            self._take_late(connection)
        if self._failures:
            reports = [value for (message, path), due in self._reports.items() for value in (message, path, due)]
            execute_rows(connection, _REPORT, reports)
            execute_rows(connection, _FAILURE, self._failures)

    def _take_late(self, connection: apsw.Connection) -> None:
        # What was told already, or ended since it was looked for, is not late any more: that is known here alone.
        late = ids(self._late)
        there: list[Any] = connection.execute(_LATE, (late,)).fetchall()
        connection.execute(_NOT_LATE, (late,))
        for row, message in there:
            key, failure = self._late[row]
            if failure is not None:
                self.fail(key, message, row, failure)

    def let_go(self, connection: apsw.Connection) -> None:
        """What is told goes, and messages that waited for nothing else. Raises SpoolError when it was told before."""
        if not self._told:
            return
        before = connection.total_changes()
        execute_rows(connection, _TOLD, [value for item in self._told.items() for value in item])
        if connection.total_changes() - before != self._count:
            raise SpoolError("failures to report are not in the spool: they were reported before")
        reports = ids(self._told)
        connection.execute(_AGAIN, (reports,))
        messages = [message for (message,) in connection.execute(_DONE, (reports,))]
        if messages:
            connection.execute(_LET_GO, (ids(messages),))


def finish_messages(connection: apsw.Connection, messages: Sequence[int]) -> list[int]:
    """Those of the finished messages that may go; the reports of the others are due now."""
    if not messages:
        return []
    kept = {message for (message,) in connection.execute(_FINISHED, (ids(messages),))}
    if not kept:
        return list(messages)
    connection.execute(_KEPT, (ids(kept),))
    return [message for message in messages if message not in kept]
