"""What the event log needs of whatever keeps the events and remembers for it (the spool satisfies both)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mcmt.message.event import OutboxRow, Remembered


class Outbox(Protocol):
    """The events of one spool shard in order, each row kept until acknowledged.

    A sequence is never used twice, and a shard that is made anew goes on past those of the one that it replaces.
    Both coroutines may raise SpoolError, and OutboxAway where the outbox is another process's.
    """

    async def read_outbox(self, after: int, limit: int) -> Sequence[OutboxRow]:
        """Up to *limit* rows with a sequence past *after*, in order; fewer only when there are no more."""

    async def acknowledge(self, through: int) -> None:
        """Let the rows up to *through* go, some time: returns at once, and a crash may undo it.

        Rows that are still there then are read again, and skipped."""


class EventTable(Protocol):
    """A table that events change. Blocking, and called in the event log's thread.

    Each row is taken again until it was saved, and after a crash if it was saved but not acknowledged: it must count
    once."""

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        """These follow what was taken of that shard before."""

    def save(self) -> None:
        """Bring to disk what was taken; called before the event log remembers that it has read it. Raises
        SpoolError: then it is called again."""


class LogMemory(Protocol):
    """What every logger remembers. Blocking, and called in the event log's thread; both may raise SpoolError."""

    def load(self) -> Mapping[str, Remembered]:
        """What was saved last, by logger; also of loggers that are no more."""

    def save(self, remembered: Sequence[Remembered]) -> None:
        """Replace what these loggers remember, in one transaction that is on disk when this returns."""
