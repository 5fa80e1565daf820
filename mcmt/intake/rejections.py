"""What was refused, on its way into the ledger without making the client wait.

Rules: one transaction for all that gathered while the last one was written; never more than
``limits.REJECTIONS`` waiting: what comes then is counted, and the count is written when there is room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from mcmt.clock import Clock
from mcmt.errors import SpoolError
from mcmt.intake import limits
from mcmt.intake.reminder import Reminder
from mcmt.message.event import Event, Kind

log = logging.getLogger(__name__)


class Rejections:
    """A bounded queue of REJECTION events in front of ``Spool.record``."""

    def __init__(self, record: Callable[[Sequence[Event]], Awaitable[None]], clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._waiting: list[Event] = []
        self._writer: asyncio.Task[None] | None = None
        self._reminder = Reminder(clock)
        self.dropped = 0
        """Rejections that are in no log yet, only counted."""

    def add(self, event: Event) -> None:
        """Have *event* written soon. Call on the event loop."""
        if len(self._waiting) >= limits.REJECTIONS:
            self.dropped += 1
            return
        self._waiting.append(event)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def aclose(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                dropped, self.dropped = self.dropped, 0
                if dropped:
                    text = f"[internal] {dropped} more rejections were not written: the spool was behind"
                    batch.append(Event(kind=Kind.REJECTION, time=self._clock.time(), text=text))
                try:
                    await self._record(batch)
                except SpoolError as error:
                    self.dropped += dropped + len(batch) - bool(dropped)
                    if self._reminder.count():
                        log.warning("%d rejections are in no log yet: %s", self.dropped, error)
                except Exception:
                    self.dropped += dropped + len(batch) - bool(dropped)
                    log.exception("%d rejections are in no log yet", self.dropped)
        finally:
            self._writer = None
