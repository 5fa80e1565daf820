"""What operators and the event log ask: counts, listings, the outbox. Read-only, on connections of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from mcmt.message.event import OutboxRow
from mcmt.message.priority import BULK, HIGH, word_of
from mcmt.spool.fetch import UNREADABLE, Fetch
from mcmt.spool.held import HELD, due_before, is_held
from mcmt.spool.ids import id_page, name_damaged
from mcmt.spool.port import (
    Backlog,
    Chosen,
    DomainTally,
    Entry,
    IdPage,
    Selection,
    TallyPage,
)
from mcmt.spool.rows import SenderData, StoredEntry, decode_entries, decode_events, decode_sender, microseconds, seconds
from mcmt.spool.selection import WINDOW, query_of
from mcmt.spool.standing import Ended, Known, Once
from mcmt.spool.tracking import ends, keys, known, known_by_key
from mcmt.spool.transaction import Damaged

# A step to the next domain is one look into the index, however many deliveries lie between.
_DOMAINS = """
WITH RECURSIVE step(name) AS (
    SELECT min(domain) FROM delivery
    UNION ALL
    SELECT (SELECT min(domain) FROM delivery WHERE domain > name) FROM step WHERE name IS NOT NULL
) SELECT CAST(name AS BLOB) FROM step WHERE name IS NOT NULL
"""
_BACKLOG = (
    "SELECT priority, count(*), min(row), min(due), sum(due >= ?2) FROM delivery INDEXED BY delivery_due"
    " WHERE domain = ?1 GROUP BY priority"
)
_RECEIVED = "SELECT sender FROM delivery JOIN message ON message.id = delivery.message WHERE delivery.row = ?"
_ENTRY = (
    "'[' || row || ',' || message || ',' || json_quote(domain) || ',' || due || ',' || attempts"
    " || ',' || json_quote(last) || ',' || data || ',' || priority || ']'"
)
_OF_MESSAGE = "SELECT * FROM delivery WHERE row BETWEEN ?1 AND ?2 ORDER BY row LIMIT -1"
# data begins with the number.
_SOME_OF_MESSAGE = (
    "SELECT * FROM delivery WHERE row BETWEEN ?1 AND ?2 AND CAST(data ->> 0 AS INTEGER) > ?3 ORDER BY row LIMIT ?4"
)
_ONE = "SELECT * FROM delivery WHERE row = ?1"
_LAST_OF_WINDOW = "SELECT row FROM delivery WHERE row > ?1 AND row <= ?2 ORDER BY row LIMIT 1 OFFSET ?3"
_LAST = "SELECT ifnull(max(row), 0) FROM delivery"
_TALLY = (
    "SELECT CAST(domain AS BLOB), count(*), count(DISTINCT message), sum(due >= {held}), min(message), max(message)"
    " FROM ({query}) GROUP BY domain"
)
_ROWS_OF_MESSAGE = "SELECT row, row + deliveries - 1 FROM message WHERE batch_id = ?"
_LAST_ROW = 2**63 - 1
_WANTED = "SELECT EXISTS (SELECT 1 FROM tracked WHERE changed > ?)"
_KEPT = ("message", "delivery", "outbox", "report", "quarantine")


class Listing:
    """The queries, on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._fetch = Fetch(connection)

    def domains(self) -> list[str]:
        """The domains that have deliveries."""
        return [name.decode("utf-8", "replace") for (name,) in self._connection.execute(_DOMAINS)]

    def backlog(self, domain: str | None) -> list[Backlog]:
        """Counted along the index of due times; a million in 0.1 to 0.2 s."""
        found = []
        for name in self.domains() if domain is None else [domain]:
            classes = self._connection.execute(_BACKLOG, (name, HELD)).fetchall()
            if classes:
                priorities, counts, rows, dues, held = zip(*classes, strict=True)
                due, by_class = min(dues), dict(zip(priorities, counts, strict=True))
                next_due = None if is_held(due) else seconds(due)
                received = self._received(min(rows))
                high, bulk = by_class.get(HIGH, 0), by_class.get(BULK, 0)
                found.append(Backlog(name, sum(counts), received, next_due, sum(held), high, bulk))
        return found

    def browse(self, selection: Selection, after: int, limit: int) -> tuple[list[tuple[int, Entry]], int | None]:
        """Entries past a row, none of them marked active, and the row to go on from, None at the end. What cannot be
        read is left out: a pull will see to it."""
        query, bound, end, more = self._window(selection, after, _LAST_ROW)
        found = self._entries(f"{query} ORDER BY row LIMIT :limit", {**bound, "limit": limit})
        if len(found) == limit:
            return found, found[-1][0] if found else after
        return found, end if more else None

    def tally(self, selection: Selection, after: int, through: int) -> TallyPage:
        """A window of a selection, counted."""
        through = through or self._connection.execute(_LAST).get
        query, bound, end, more = self._window(selection, after, through)
        rows = self._connection.execute(_TALLY.format(query=query, held=HELD), bound)
        return TallyPage(
            tuple(DomainTally(domain.decode("utf-8", "replace"), *counts) for domain, *counts in rows),
            end if more else None,
            through,
        )

    def answers(self, domain: str, after: int) -> tuple[dict[str, int], int | None]:
        """Last answers of a window of a domain's deliveries, and the row to go on from, None at the end."""
        query, bound, end, more = self._window(Selection(domain=domain), after, _LAST_ROW)
        rows = self._connection.execute(f"SELECT CAST(last AS BLOB), count(*) FROM ({query}) GROUP BY last", bound)  # noqa: S608
        return {last.decode("utf-8", "replace"): count for last, count in rows}, end if more else None

    def choose(self, selection: Selection, after: int, through: int, limit: int) -> Chosen:
        """Rows of a window of a selection, and their domains."""
        query, bound, end, more = self._window(selection, after, through)
        rows: Iterable[Any] = self._connection.execute(
            f"SELECT row, CAST(domain AS BLOB) FROM ({query}) ORDER BY row LIMIT :limit",  # noqa: S608 - our own words
            {**bound, "limit": limit},
        )
        chosen: dict[int, str] = {row: domain.decode("utf-8", "replace") for row, domain in rows}
        if len(chosen) == limit:
            return Chosen(chosen, max(chosen))
        return Chosen(chosen, end if more else None)

    def _window(self, selection: Selection, after: int, through: int) -> tuple[str, dict[str, Any], int, bool]:
        """The query for a selection's next window, what is bound to it, its last row, whether another may follow."""
        query, bound = query_of(selection)
        last = None
        if not selection.ids:
            last = self._connection.execute(_LAST_OF_WINDOW, (after, through, WINDOW - 1)).get
        end = through if last is None else last
        return query, {**bound, "after": after, "end": end}, end, last is not None

    def owed(self) -> int:
        """How many reports are owed."""
        count: int = self._connection.execute("SELECT count(*) FROM report").get
        return count

    def ids(self, after: int, limit: int, now: float) -> IdPage | None:
        """Ids past a row; also of what cannot be read otherwise."""
        return id_page(self._connection, after, limit, now)

    def name_damaged(self, damaged: Sequence[Damaged]) -> list[tuple[str, str]]:
        """Delivery id and batch id of rows that are to be moved, as far as they can be known."""
        return name_damaged(self._connection, damaged)

    def find(self, id: str) -> list[tuple[int, Entry]]:  # noqa: A002 - the port's
        """The delivery of that id, or all of that batch id."""
        batch_id, dash, _ = id.partition("-")
        rows = self._connection.execute(_ROWS_OF_MESSAGE, (batch_id,)).fetchall()
        found = [entry for first, last in rows for entry in self._entries(_OF_MESSAGE, (first, last))]
        return [(row, entry) for row, entry in found if entry.id == id] if dash else found

    def known_by_key(self, key: str) -> Known | None:
        """The message that was accepted under *key*."""
        return known_by_key(self._connection, key)

    def keys(self, prefix: str) -> dict[Once, float]:
        """See tracking."""
        return keys(self._connection, prefix)

    def standing(
        self, batch_id: str, after: int, limit: int
    ) -> tuple[Known, list[tuple[int, Entry]], list[Ended]] | None:
        """What is kept of a message, its pending deliveries and its ended ones, with numbers past *after*."""
        if (found := known(self._connection, batch_id)) is None:
            return None
        # In this order: what ends between the two is in both.
        rows = self._connection.execute(_ROWS_OF_MESSAGE, (batch_id,)).fetchall()
        pending = [
            entry for first, last in rows for entry in self._entries(_SOME_OF_MESSAGE, (first, last, after, limit))
        ]
        return found, pending, ends(self._connection, batch_id, after, limit)

    def quarantined(self) -> int:
        """How many rows are in quarantine."""
        count: int = self._connection.execute("SELECT count(*) FROM quarantine").get
        return count

    def reusable(self) -> int:
        """Bytes of the file that hold nothing: what comes is written there before the file grows."""
        pages, size = self._connection.pragma("freelist_count"), self._connection.pragma("page_size")
        return int(pages) * int(size)

    def is_empty(self, since: float) -> bool:
        """No message, no event, no report, nothing in quarantine, and nothing to be told of messages that ended after
        *since*."""
        if any(self._connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").get for table in _KEPT):  # noqa: S608 - our own words
            return False
        return not self._connection.execute(_WANTED, (microseconds(since),)).get

    def outbox(self, after: int, limit: int) -> tuple[list[OutboxRow], list[Damaged]]:
        """Rows past a sequence, and those that cannot be read."""
        found = []
        damaged = []
        query = "SELECT sequence, events FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?"
        for sequence, blob in self._connection.execute(query, (after, limit)):
            try:
                found.append(OutboxRow(sequence, decode_events(blob)))
            except msgspec.MsgspecError as error:
                damaged.append(Damaged("outbox", sequence, str(error)))
        return found, damaged

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _received(self, row: int) -> float | None:
        try:
            return decode_sender(self._connection.execute(_RECEIVED, (row,)).get).received
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
            return None

    def _entries(self, query: str, args: Any) -> list[tuple[int, Entry]]:
        """What a query for deliveries finds, in its order.

        As pulls read (fetch.py): one text a page, put together inside SQLite. 1,000 deliveries took 8.4 ms of
        CPU when each was a statement of its own, and take 2.2, or 1.2 where messages have many.
        """
        try:
            text = self._connection.execute(f"SELECT CAST(group_concat({_ENTRY}) AS BLOB) FROM ({query})", args).get  # noqa: S608
            stored = decode_entries(b"[%b]" % (text or b""))
        except UNREADABLE:
            if query == _ONE:
                return []
            rows = self._connection.execute(f"SELECT row FROM ({query})", args).fetchall()  # noqa: S608 - our own words
            return [entry for row in rows for entry in self._entries(_ONE, row)]
        messages, _ = self._fetch.messages(list({one.message for one in stored}))
        senders = {message.id: message.sender for message in messages}
        return [(one.row, _entry(one, sender)) for one in stored if (sender := senders.get(one.message)) is not None]


def _entry(stored: StoredEntry, sender: SenderData) -> Entry:
    data = stored.data
    return Entry(
        id=f"{sender.batch_id}-{data.number}",
        domain=stored.domain,
        recipient=data.recipient,
        token=data.token,
        sender=sender.reverse_path,
        received=sender.received,
        due=seconds(due_before(stored.due)),
        expires=data.expires,
        attempts=stored.attempts,
        last=stored.last,
        size=data.size,
        active=False,
        held=is_held(stored.due),
        priority=word_of(stored.priority),
    )
