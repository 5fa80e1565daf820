"""The reports that are due, read by the page: two statements for many reports (the reason is told in fetch.py).

What cannot be read is set aside for quarantine, report by report; its failures stay where they are and are found again
when the report's row is put back.
"""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import msgspec

from mcmt.message.dsn import MAX_LISTED
from mcmt.message.failure import Failure
from mcmt.message.notification import FAILED
from mcmt.spool.fetch import read_each
from mcmt.spool.port import OwedReport
from mcmt.spool.rows import decode_envelope, decode_failures, decode_reports, microseconds
from mcmt.spool.schema import ids
from mcmt.spool.transaction import Damaged

MAX_BYTES = 16 * 1024**2
"""Bytes of envelopes and header fields that one pull of reports brings, at most; but at least one report."""

_DUE = """
SELECT json_group_array(json_array(id, length)) FROM (
    SELECT report.id AS id, ifnull(length(envelope), 0) AS length
    FROM report LEFT JOIN message ON message.id = report.message
    WHERE report.due <= ?1 ORDER BY report.due, report.id LIMIT ?2
)
"""
# Of a row of failure: 1 where it tells of something else (Failure.action); of damaged ones nothing is known.
_OTHER = "CASE WHEN json_valid(data) THEN ifnull(json_extract(data, '$[13]') <> 'failed', 0) ELSE 0 END"
_REPORTS = f"""
SELECT CAST(group_concat(
    '[' || report.id || ',' || json_quote(return_path)
    || ',' || ifnull((SELECT max(id) FROM failure WHERE report = report.id), 0)
    || ',' || (SELECT count(*) FROM failure WHERE report = report.id)
    || ',' || length(envelope) || ',' || sender
    || ',' || (SELECT ifnull(sum({_OTHER}), 0) FROM failure WHERE report = report.id) || ']'
) AS BLOB), CAST(group_concat(envelope, '') AS BLOB)
FROM report JOIN message ON message.id = report.message WHERE report.id IN carray(?1)
"""  # noqa: S608 - our own words
_FAILURES = f"""
SELECT CAST(group_concat(
    '[' || failure.id || ',' || failure.report || ',' || json_quote(last) || ',' || data || ']'
) AS BLOB)
FROM report CROSS JOIN failure
    ON failure.id IN (SELECT id FROM failure WHERE report = report.id ORDER BY {_OTHER}, id LIMIT {MAX_LISTED})
WHERE report.id IN carray(?1)
"""  # noqa: S608 - our own words
_decode_due = msgspec.json.Decoder(list[tuple[int, int]]).decode


class Reports:
    """The queries, on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def due(self, now: float, limit: int) -> tuple[list[OwedReport], list[Damaged]]:
        """Up to *limit* reports that are due by *now*, and those that cannot be read."""
        keys = list(_within(_decode_due(self._connection.execute(_DUE, (microseconds(now), limit)).get)))
        found, damaged = read_each("report", keys, self._read)
        there = {report.key for report in found} | {row.key for row in damaged}
        damaged += [
            Damaged("report", key, "its message or its failures are missing") for key in keys if key not in there
        ]
        order = {key: place for place, key in enumerate(keys)}
        return sorted(found, key=lambda report: order[report.key]), damaged

    def _read(self, keys: list[int]) -> list[OwedReport]:
        heads, envelopes = self._connection.execute(_REPORTS, (ids(keys),)).get
        stored = decode_reports(b"[%b]" % (heads or b""))
        listed: dict[int, list[tuple[int, Failure]]] = {}
        text = self._connection.execute(_FAILURES, (ids(keys),)).get
        for row in decode_failures(b"[%b]" % (text or b"")):
            failure = msgspec.structs.replace(row.data, last=row.last) if row.last else row.data
            listed.setdefault(row.report, []).append((row.id, failure))
        reports = []
        start = 0
        for report in stored:
            envelope = envelopes[start : start + report.length]
            start += report.length
            if not report.count:
                continue
            about = decode_envelope(envelope)
            # What came between the two statements is told by the next report.
            rows = [row for row in listed[report.id] if row[0] <= report.through]
            failures = sorted(rows, key=lambda row: (row[1].action != FAILED, row[1].action, row[0]))
            reports.append(
                OwedReport(
                    key=report.id,
                    return_path=report.return_path,
                    sender=report.sender.sender(),
                    header_block=about.header_block,
                    failures=tuple([failure for _, failure in failures]),
                    count=report.count,
                    through=report.through,
                    others=report.others,
                    release=about.envelope.release,
                    deliver_by=about.envelope.deliver_by,
                )
            )
        return reports


def _within(due: list[tuple[int, int]]) -> Iterator[int]:
    """The first of the reports, as many as have MAX_BYTES together."""
    total = 0
    for key, length in due:
        total += length
        if total > MAX_BYTES and total > length:
            return
        yield key
