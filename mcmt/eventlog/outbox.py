"""What the event log needs of whatever keeps the events (the spool satisfies it)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mcmt.message.event import Event, LogPosition, OutboxRow


class Outbox(Protocol):
    """Rows of events in order, each kept until acknowledged; every coroutine may raise SpoolError."""

    async def read_outbox(self, after: int, limit: int) -> Sequence[OutboxRow]:
        """Up to *limit* rows with a sequence past *after*, in order."""

    async def acknowledge(self, through: int, positions: Sequence[LogPosition]) -> None:
        """Remember the files' positions and let the rows up to *through* go, in one transaction. *through* may be
        what it was before, or 0 before the first: then only the positions change."""

    async def log_positions(self) -> Sequence[LogPosition]:
        """The positions remembered last."""

    async def record(self, events: Sequence[Event]) -> None:
        """Keep events that change nothing else."""
