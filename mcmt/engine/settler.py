"""Writes verdicts to the spool, in bursts.

Rules: one settlement is under way at a time, and whatever is judged meanwhile makes the next burst, so
that load makes the transactions larger and not more (invariant 10). What cannot be written stays here
and is tried again: a result that was known is never dropped while the process lives. It is bounded by
what the queues may hold resident, because a delivery stays resident until its verdict is on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from mcmt.config.settings import DomainSettings
from mcmt.engine.verdict import judge
from mcmt.errors import SpoolError
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
        self._settlements: list[Settlement] = []
        self._events: list[Event] = []
        self._settled: list[tuple[Settled, list[Settlement]]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, settlements: list[Settlement], events: Iterable[Event], settled: Settled | None) -> None:
        """Write these soon; call *settled* when they are on disk."""
        self._settlements.extend(settlements)
        self._events.extend(events)
        if settled is not None:
            self._settled.append((settled, settlements))
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
        verdicts = [judge(delivery, outcome, settings, now, random=lambda: 0.0) for delivery in deliveries]
        self.add(
            [verdict.settlement for verdict in verdicts],
            [event for verdict in verdicts for event in verdict.events],
            settled,
        )

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
            while self._settlements or self._events:
                settlements, self._settlements = self._settlements, []
                events, self._events = self._events, []
                settled, self._settled = self._settled, []
                await self._write(settlements, events)
                for callback, done in settled:
                    callback(done)
        finally:
            self._task = None

    async def _write(self, settlements: list[Settlement], events: list[Event]) -> None:
        told = False
        while True:
            try:
                await self._spool.settle(settlements, events)
            except SpoolError as error:
                if not told:
                    log.error("results of %d deliveries wait for the spool: %s", len(settlements), error)
                    told = True
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return
