"""Writes verdicts to the spool, in bursts.

Rules: one settlement is under way at a time, and whatever is judged meanwhile makes the next burst, so
that load makes the transactions larger and not more (invariant 10). What cannot be written stays here
and is tried again: a result that was known is never dropped while the process lives. It is bounded by
what the queues may hold resident, because a delivery stays resident until its verdict is on disk.

While the spool takes nothing, ``stuck`` is true and the queues send nothing: a delivery whose result
cannot be kept would be sent again after a crash.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from mcmt.config.settings import DomainSettings
from mcmt.engine.verdict import Verdict, judge
from mcmt.errors import NotKept, NotOut, SpoolError
from mcmt.message.event import Event
from mcmt.message.model import Delivery
from mcmt.message.status import Outcome
from mcmt.spool.port import Settlement, Spool

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0

Settled = Callable[[Sequence[Settlement]], None]
"""Called with the settlements of one domain once they are on disk."""


class Settler:
    """The one writer of verdicts and route events."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._verdicts: list[Verdict] = []
        self._events: list[Event] = []
        self._settled: list[tuple[Settled, list[Settlement]]] = []
        self._task: asyncio.Task[None] | None = None
        self.stuck = False
        """The spool has refused the last burst, and is asked again every second."""

    def add(self, verdicts: Sequence[Verdict], settled: Settled | None) -> None:
        """Write these soon; call *settled* when they are on disk."""
        self._verdicts.extend(verdicts)
        if settled is not None:
            self._settled.append((settled, [verdict.settlement for verdict in verdicts]))
        self._start()

    def fail(
        self,
        deliveries: Sequence[Delivery],
        outcome: Outcome,
        settings: DomainSettings,
        now: float,
        settled: Settled | None = None,
    ) -> None:
        """End deliveries without an attempt; *outcome* is final."""
        self.add([judge(delivery, outcome, settings, now, random=lambda: 0.0) for delivery in deliveries], settled)

    def record(self, event: Event) -> None:
        """Write an event that changes no delivery."""
        self._events.append(event)
        self._start()

    async def flush(self) -> None:
        """Return when everything added so far is on disk."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="settler")

    async def _run(self) -> None:
        try:
            while self._verdicts or self._events:
                verdicts, self._verdicts = self._verdicts, []
                events, self._events = self._events, []
                settled, self._settled = self._settled, []
                await self._write(verdicts, events)
                for callback, done in settled:
                    callback(done)
        finally:
            self._task = None

    async def _write(self, verdicts: list[Verdict], events: list[Event]) -> None:
        while True:
            settlements = [verdict.settlement for verdict in verdicts]
            told = [event for verdict in verdicts for event in verdict.events]
            try:
                await self._spool.settle(settlements, [*told, *events])
            except NotOut as error:
                # Answered twice by its channel: the first answer has been written. The others must not wait for it.
                log.error("a channel answered the delivery of row %d twice: the second answer is dropped", error.row)
                verdicts = [verdict for verdict in verdicts if verdict.settlement.row != error.row]
            except NotKept as error:
                await self._write_apart(verdicts, events, error)
                return
            except SpoolError as error:
                if not self.stuck:
                    log.error("sending pauses: the results of %d deliveries wait for the spool: %s", len(told), error)
                    self.stuck = True
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if self.stuck:
                    log.warning("sending goes on: the spool takes results again")
                    self.stuck = False
                return

    async def _write_apart(self, verdicts: list[Verdict], events: list[Event], error: NotKept) -> None:
        """Find, by halves, what the spool does not keep: the rest must not wait for it."""
        if len(verdicts) > 1:
            half = len(verdicts) // 2
            await self._write(verdicts[:half], [])
            await self._write(verdicts[half:], events)
        elif verdicts:
            log.error("the result of the delivery of row %d: %s", verdicts[0].settlement.row, error)
            # Its lines are owed all the same.
            await self._write([], [*verdicts[0].events, *events])
        elif len(events) > 1:
            half = len(events) // 2
            await self._write([], events[:half])
            await self._write([], events[half:])
        else:
            log.error(
                "an event is in no log: %s: %s %s", error, events[0].kind.value, events[0].id or events[0].batch_id
            )
