"""The table of gone tokens, ``tokens.sqlite``: one for the machine (mcmt/spool/port.py, GoneTokens).

It learns from the events of every shard's outbox, as the event log reads them: a transaction for as many as came in a
tenth of a second (mcmt/eventlog/saving.py). With them it keeps how far each shard was read, so an event that is read
again after a crash counts once, and what was forgotten in between does not come back.

Rules: events are written by one process, the one that writes the logs; a statement of a lookup or a listing reads a
page, so that nobody waits long for the connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from mcmt.clock import Clock
from mcmt.errors import SpoolError
from mcmt.message.event import GONE, INVALID, REGISTERED, Event, Kind, OutboxRow
from mcmt.spool.port import GoneToken
from mcmt.spool.rows import microseconds, seconds
from mcmt.spool.store_file import StoreFile

FILE: Final = "tokens.sqlite"
VERSION: Final = 1
APPLICATION: Final = 0x6D637467  # "mctg", for file(1)
AT_ONCE: Final = 500
"""Tokens looked up in one statement."""
_CACHE = 8 * 1024  # KiB
_TABLES = """
-- AUTOINCREMENT: a number that a reader has seen is never another row's.
CREATE TABLE token (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    domain TEXT NOT NULL,
    token TEXT NOT NULL,
    since INTEGER NOT NULL,         -- microseconds since the epoch, as learned
    state TEXT NOT NULL,
    learned INTEGER NOT NULL,
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    delivery TEXT NOT NULL,
    UNIQUE (domain, token)
) STRICT;
CREATE INDEX token_domain ON token (domain, number);
-- How far each shard's outbox was read.
CREATE TABLE progress (shard TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
-- How far the senders of a domain have been told.
CREATE TABLE told (domain TEXT PRIMARY KEY, through INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
_STORE = StoreFile(FILE, APPLICATION, VERSION, _TABLES, _CACHE)
_LEARN = f"""
INSERT OR REPLACE INTO token (domain, token, since, state, learned, reason, source, delivery)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
WHERE NOT EXISTS (
    SELECT 1 FROM token WHERE domain = ?1 AND token = ?2 AND since >= ?3 AND (state = '{GONE}' OR ?4 = '{INVALID}')
)
"""  # noqa: S608 - our own words
_REGISTERED = "DELETE FROM token WHERE domain = ?1 AND token = ?2 AND since < ?3"
_PROGRESS = "INSERT INTO progress VALUES (?1, ?2) ON CONFLICT DO UPDATE SET sequence = ?2"
_TOLD = "INSERT INTO told VALUES (?1, ?2) ON CONFLICT DO UPDATE SET through = max(through, ?2)"
_SINCE = "SELECT token, since FROM token WHERE domain = ?1 AND token IN carray(?2)"
_COLUMNS = "SELECT domain, token, since, state, learned, reason, source, delivery, number FROM token"
_PAGE = f"{_COLUMNS} WHERE number > ?1 ORDER BY number LIMIT ?2"
_DOMAIN_PAGE = f"{_COLUMNS} WHERE domain = ?3 AND number > ?1 ORDER BY number LIMIT ?2"
_UNREAD = f"""{_COLUMNS} WHERE domain = ?3 AND state = '{GONE}'
AND number > max(?1, ifnull((SELECT through FROM told WHERE domain = ?3), 0)) ORDER BY number LIMIT ?2"""  # noqa: S608 - as well
_FORGET = "DELETE FROM token WHERE domain = ? AND token IN carray(?)"
_FORGET_PAGE = "DELETE FROM token WHERE number IN (SELECT number FROM token WHERE domain = ? AND learned < ? LIMIT ?)"

T = TypeVar("T")


class StoredGoneTokens:
    """``mcmt.spool.port.GoneTokens``."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._file = connection.filename
        self._turn = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> StoredGoneTokens:
        """Open the table in a spool folder, made if there is none. Raises SpoolUnusable."""
        return cls(_STORE.open(folder))

    def since(self, domain: str, tokens: Sequence[str]) -> Mapping[str, float]:
        """See GoneTokens."""
        found: dict[str, float] = {}
        for start in range(0, len(tokens), AT_ONCE):
            asked = apsw.carray(tuple(tokens[start : start + AT_ONCE]))
            found.update((token, seconds(time)) for token, time in self._query(_SINCE, (domain, asked)))
        return found

    def page(self, domain: str | None, after: int, limit: int) -> Sequence[GoneToken]:
        """See GoneTokens."""
        if domain is None:
            return self._tokens(_PAGE, (after, limit))
        return self._tokens(_DOMAIN_PAGE, (after, limit, domain))

    def unread(self, domain: str, after: int, limit: int) -> Sequence[GoneToken]:
        """See GoneTokens."""
        return self._tokens(_UNREAD, (after, limit, domain))

    def told(self, domain: str, through: int) -> None:
        """See GoneTokens."""
        self._query(_TOLD, (domain, through))

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._connection.close()

    def _tokens(self, query: str, values: tuple[Any, ...]) -> Sequence[GoneToken]:
        return [
            GoneToken(domain, token, seconds(since), state, seconds(learned), reason, source, delivery, number)
            for domain, token, since, state, learned, reason, source, delivery, number in self._query(query, values)
        ]

    def _query(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        return self._run(lambda: self._connection.execute(statement, values).fetchall())

    def _run(self, work: Callable[[], T]) -> T:
        try:
            with self._turn:
                return work()
        except apsw.Error as error:
            raise SpoolError(f"cannot use {self._file}: {error}; check the disk and its free space") from error


class StoredTokenTable(StoredGoneTokens):
    """``mcmt.spool.port.TokenTable``, and ``mcmt.eventlog.outbox.EventTable``."""

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        super().__init__(connection)
        self._clock = clock
        self._taken: dict[str, int] = dict(self._query("SELECT shard, sequence FROM progress", ()))
        self._events: list[Event] = []

    @classmethod
    def create(cls, folder: Path, clock: Clock) -> StoredTokenTable:
        """Open the table in a spool folder, made if there is none. Raises SpoolUnusable."""
        return cls(_STORE.open(folder), clock)

    # -- mcmt.eventlog.outbox.EventTable ------------------------------------------------------------------------------

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        """See EventTable."""
        if not rows:
            return
        taken = self._taken.get(shard, 0)
        events = [event for row in rows if row.sequence > taken for event in row.events if event.kind is Kind.TOKEN]
        with self._turn:
            self._events += events
            self._taken[shard] = max(taken, rows[-1].sequence)

    def save(self) -> None:
        """See EventTable."""
        # Without such an event nothing is written: rows that are read again have none either.
        if self._events:
            self._run(self._save)

    def _save(self) -> None:
        now = microseconds(self._clock.time())
        with self._connection:
            for event in self._events:
                if event.phase == REGISTERED:
                    since = microseconds(event.gone_since)
                    self._connection.execute(_REGISTERED, (event.domain, event.token.lower(), since))
                else:
                    self._connection.execute(_LEARN, _columns(_token_of(event), now))
            self._connection.executemany(_PROGRESS, self._taken.items())
        self._events = []

    # -- by hand ------------------------------------------------------------------------------------------------------

    def learn(self, tokens: Iterable[GoneToken]) -> int:
        """See TokenTable."""

        def work() -> int:
            now = microseconds(self._clock.time())
            columns = [_columns(token, now) for token in tokens]
            return self._count(lambda: self._connection.executemany(_LEARN, columns))

        return self._run(work)

    def forget(self, domain: str, tokens: Sequence[str]) -> int:
        """See TokenTable."""
        return self._delete(_FORGET, domain, apsw.carray(tuple(token.lower() for token in tokens))) if tokens else 0

    def forget_page(self, domain: str, learned_before: float, limit: int) -> int:
        """See TokenTable."""
        return self._delete(_FORGET_PAGE, domain, microseconds(learned_before), limit)

    def _delete(self, statement: str, *values: Any) -> int:
        def work() -> int:
            if self._events:  # or they would come after it
                self._save()
            return self._count(lambda: self._connection.execute(statement, values))

        return self._run(work)

    def _count(self, change: Callable[[], object]) -> int:
        before = self._connection.total_changes()
        with self._connection:
            change()
        return self._connection.total_changes() - before


def _token_of(event: Event) -> GoneToken:
    return GoneToken(
        event.domain,
        event.token,
        event.gone_since,
        "gone" if event.phase == GONE else "invalid",
        reason=f"{event.code} {event.text}".strip(),
        source=event.protocol,
        delivery=event.id,
    )


def _columns(token: GoneToken, learned: int) -> tuple[str, str, int, str, int, str, str, str]:
    since = microseconds(token.since)
    return (
        token.domain,
        token.token.lower(),
        since,
        token.state,
        learned,
        token.reason,
        token.source,
        token.delivery,
    )
