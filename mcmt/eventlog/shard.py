"""One spool shard as the event log sees it: its outbox, and how far that was read.

A shard is read by a task of its own, one burst at a time, so that one that answers late holds no other up; and each
round of the writer takes at most one burst of each, so that none starves.

Rules: lives on the event loop; knows nothing of files or loggers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from mcmt.clock import Clock, Timer
from mcmt.errors import OutboxAway
from mcmt.eventlog.outbox import Outbox
from mcmt.message.event import OutboxRow

_ROWS = 256
"""Rows read at once, at most; fewer when they hold many events."""
_FIRST_ROWS = 16


class Burst(msgspec.Struct, frozen=True):
    """Rows of one shard that follow each other."""

    shard: str
    start: int
    """The sequence past which they were read."""
    rows: Sequence[OutboxRow]
    last: int
    """Of the last of them; without rows the start."""
    drained: bool
    """The outbox had no more."""
    turn: int
    """The writer's turn when the reading began."""


class Shard:
    """One outbox. *ring* is called when a reading has come to an end."""

    def __init__(self, name: str, outbox: Outbox, ring: Callable[[], None]) -> None:
        self.name = name
        self.outbox = outbox
        self.wanted = True
        """There may be rows that were not read."""
        self.away = False
        """Its process was not there when it was asked last."""
        self.refusing = False
        """It could not be read when it was asked last."""
        self.served = False
        """A burst of it was written."""
        self.drained = -1
        """The last turn of which everything was read and offered to the loggers."""
        self.end = 0
        """Where it ended then."""
        self.acknowledged = 0
        self._ring = ring
        self._rows = _FIRST_ROWS
        self._rest: Timer | None = None
        self._reading: asyncio.Task[Burst] | None = None

    @property
    def reading(self) -> bool:
        """It was asked, and what came was not taken yet."""
        return self._reading is not None

    @property
    def resting(self) -> bool:
        """It had no more a moment ago."""
        return self._rest is not None

    def rest(self, clock: Clock, seconds: float) -> None:
        """Be left alone for so long."""

        def over() -> None:
            self._rest = None
            if self.wanted:
                self._ring()

        if self._rest is None:
            self._rest = clock.call_later(seconds, over)

    def behind(self, turn: int) -> bool:
        """Rows of that turn may still be to come: it is there, and was not read to its end since."""
        return not self.away and self.drained < turn

    def begin(self, start: int, events: int, turn: int) -> None:
        """Read the next burst past *start*, of so many *events* at most; a row with more is a burst of its own."""
        self.wanted = False
        self._reading = asyncio.get_running_loop().create_task(self._read(start, events, turn))
        self._reading.add_done_callback(lambda _: self._ring())

    def take(self) -> Burst | None:
        """What was read, if it has come. Raises SpoolError, but none when the outbox is away."""
        if self._reading is None or not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        self.away = self.refusing = False
        if reading.cancelled():  # whoever answers for its process gave up
            self.away = True
            return None
        try:
            return reading.result()
        except OutboxAway:
            self.away = True
            return None
        except Exception:
            self.refusing = True
            raise

    def cancel(self) -> None:
        """Read no more."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def _read(self, start: int, events: int, turn: int) -> Burst:
        asked = self._rows
        rows = await self.outbox.read_outbox(start, asked)
        held = taken = 0
        for row in rows:
            held += len(row.events)
            if taken and held > events:
                break
            taken += 1
        # Rows of many events are asked for in small numbers: the burst is what memory holds.
        total = sum(len(row.events) for row in rows)
        self._rows = min(_ROWS, max(1, events * len(rows) // max(1, total)))
        last = rows[taken - 1].sequence if rows else start
        return Burst(self.name, start, rows[:taken], last, taken == len(rows) < asked, turn)
