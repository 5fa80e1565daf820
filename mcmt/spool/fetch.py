"""What a pull reads, in one statement a table.

Each answers with one row, a JSON text put together inside SQLite (and one blob with the contents end to
end), because every row fetched is one more time that the interpreter lock is given up and has to be won back
from the event loop. (Alone this costs more, 0.7 us a part for 0.4 row by row; what it gains beside a busy loop
was not measured.) When such a text does not decode, its rows are read one by one and the damaged ones are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import apsw
import msgspec

from mcmt.message.model import Part
from mcmt.message.priority import CLASSES
from mcmt.spool.held import HELD
from mcmt.spool.rows import StoredDelivery, StoredMessage, decode_deliveries, decode_messages, decode_parts
from mcmt.spool.schema import ids
from mcmt.spool.transaction import Damaged

PAGE = 256
"""Deliveries read at once."""

_ROW = (
    "'[' || row || ',' || message || ',' || attempts || ',' || due || ',' || expires || ',' || priority || ','"
    " || json_quote(domain) || ',' || data || ']'"
)
# The row value (due, row) > (?2, ?3) would be looked up by due alone and walk all that are due at one moment.
_WALK = (
    "SELECT * FROM ("
    "SELECT * FROM delivery WHERE domain = ?1 AND priority = ?6 AND due = ?2 AND row > ?3 ORDER BY row LIMIT ?5)"
    " UNION ALL SELECT * FROM ("
    "SELECT * FROM delivery WHERE domain = ?1 AND priority = ?6 AND due > ?2 AND due <= ?4 ORDER BY due, row LIMIT ?5)"
    " LIMIT ?5"
)
# A look into the index for each of them.
_PRIORITIES = (
    f"SELECT column1 FROM (VALUES {', '.join([f'({one})' for one in CLASSES])})"  # noqa: S608 - our own words
    " WHERE EXISTS (SELECT 1 FROM delivery WHERE domain = ?1 AND priority = column1)"
)
# With +: else SQLite looks the domain up and walks all of it. Ten rows of 300,000 took 16 ms so, and take 0.2.
_BY_ROW = "SELECT * FROM delivery WHERE row IN carray(?1) AND +domain = ?2 ORDER BY due, row LIMIT -1"
_BY_ROWS = "SELECT * FROM delivery WHERE row IN carray(?1) ORDER BY row LIMIT -1"
_EXPIRED = "SELECT * FROM delivery WHERE (expires, row) > (?1, ?2) AND expires <= ?3 ORDER BY expires, row LIMIT ?4"
_NEXT = (
    "SELECT due, row FROM delivery WHERE domain = ?1 AND priority = ?2"  # noqa: S608 - our own words
    f" AND due > ?3 AND due < {HELD} ORDER BY due, row"
)
_MESSAGE = "'[' || id || ',' || deliveries || ',' || parts || ',' || sender || ']'"
_PART = "'[' || id || ',' || length(content) || ',' || head || ']'"
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, apsw.CorruptError)
"""What damaged rows raise."""

_Args = tuple[Any, ...]
_T = TypeVar("_T")


class Page(msgspec.Struct):
    """Deliveries in the order asked for."""

    deliveries: list[StoredDelivery]
    damaged: list[Damaged]
    last: tuple[int, int, int] | None
    """Due, expires and row of the last of them, damaged or not; None: there were none."""
    full: bool
    """As many as were asked for, so there may be more."""


class Fetch:
    """The queries of the pulls, on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def walk(self, domain: str, priority: int, after: tuple[int, int], through: int, limit: int) -> Page:
        """Deliveries of a domain and priority past *after* (due, row) and due by *through*."""
        return self._page(_WALK, (domain, *after, through, limit, priority), limit, domain)

    def priorities(self, domain: str) -> list[int]:
        """Those of which a domain has any."""
        rows: Iterable[Any] = self._connection.execute(_PRIORITIES, (domain,))
        return [priority for (priority,) in rows]

    def by_row(self, domain: str, rows: list[int]) -> Page:
        """Those of *rows* that are still in the spool."""
        return self._page(_BY_ROW, (ids(rows), domain), len(rows), domain)

    def by_rows(self, rows: list[int]) -> Page:
        """Those of *rows*, of whatever domain, that are still in the spool."""
        return self._page(_BY_ROWS, (ids(rows),), len(rows), "")

    def expired(self, after: tuple[int, int], now: int, limit: int) -> Page:
        """Deliveries of any domain that expired by *now*, past *after* (expires, row)."""
        return self._page(_EXPIRED, (*after, now, limit), limit, "")

    def due_after(self, domain: str, priority: int, now: int) -> Iterable[tuple[int, int]]:
        """(due, row) of what a domain has of a priority past *now* and not held, earliest first. Read no further than
        needed."""
        return self._connection.execute(_NEXT, (domain, priority, now))

    def messages(self, keys: list[int]) -> tuple[list[StoredMessage], list[Damaged]]:
        """Those of the messages that are in the spool, and those that cannot be read."""

        def read(some: list[int]) -> list[StoredMessage]:
            text = self._connection.execute(
                f"SELECT CAST(group_concat({_MESSAGE}) AS BLOB) FROM message WHERE id IN carray(?1)",  # noqa: S608
                (ids(some),),
            ).get
            return decode_messages(b"[%b]" % (text or b""))

        return read_each("message", keys, read)

    def parts(self, keys: list[int], *, contents: bool = True) -> tuple[list[tuple[int, Part]], list[Damaged]]:
        """Those of the parts that are in the spool, and those that cannot be read; *contents*: or are empty."""
        end_to_end = "CAST(group_concat(content, '') AS BLOB)" if contents else "NULL"

        def read(some: list[int]) -> list[tuple[int, Part]]:
            heads, contents = self._connection.execute(
                f"SELECT CAST(group_concat({_PART}) AS BLOB), {end_to_end} FROM part WHERE id IN carray(?1)",  # noqa: S608
                (ids(some),),
            ).get
            parts = []
            start = 0
            for stored in decode_parts(b"[%b]" % (heads or b"")):
                content = contents[start : start + stored.length] if contents else b""
                start += stored.length
                parts.append((stored.id, Part(stored.head.media_type, stored.head.headers, content)))
            return parts

        return read_each("part", keys, read)

    def _page(self, query: str, args: _Args, limit: int, domain: str) -> Page:
        try:
            text = self._connection.execute(f"SELECT CAST(group_concat({_ROW}) AS BLOB) FROM ({query})", args).get  # noqa: S608
            deliveries = decode_deliveries(b"[%b]" % (text or b""))
        except UNREADABLE:
            return self._page_by_rows(query, args, limit, domain)
        if not deliveries:
            return Page([], [], None, False)
        end = deliveries[-1]
        return Page(deliveries, [], (end.due, end.expires, end.row), len(deliveries) == limit)

    def _page_by_rows(self, query: str, args: _Args, limit: int, domain: str) -> Page:
        page = Page([], [], None, False)
        keys: list[Any] = self._connection.execute(f"SELECT due, expires, row FROM ({query})", args).fetchall()  # noqa: S608
        for due, expires, row in keys:
            page.last = due, expires, row
            try:
                text = self._connection.execute(f"SELECT CAST({_ROW} AS BLOB) FROM delivery WHERE row = ?", (row,)).get  # noqa: S608
                page.deliveries += decode_deliveries(b"[%b]" % (text or b""))
            except UNREADABLE as error:
                page.damaged.append(Damaged("delivery", row, str(error), domain))
        page.full = len(keys) == limit
        return page


def read_each(source: str, keys: list[int], read: Callable[[list[int]], list[_T]]) -> tuple[list[_T], list[Damaged]]:
    """What *read* makes of all keys at once, or of each alone where one of them is damaged, and those that are."""
    if not keys:
        return [], []
    try:
        return read(keys), []
    except UNREADABLE:
        found: list[_T] = []
        damaged = []
        for key in keys:
            try:
                found += read([key])
            except UNREADABLE as error:
                damaged.append(Damaged(source, key, str(error)))
        return found, damaged
