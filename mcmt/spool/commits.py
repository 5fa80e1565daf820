"""The event loop's side of the writer: jobs go out one by one, what became of them comes back by the batch.

What waits for the disk is bounded in number and in bytes; whoever brings more waits for room. Whoever is told what
became of it is told once of all that one transaction did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import apsw

from mcmt.errors import SpoolDamaged, SpoolError
from mcmt.spool.jobs import Accept, Settle, SpoolJob
from mcmt.spool.writer import Writer

LAZY_SECONDS = 0.5
"""How long a job which nobody waits for may wait for another's transaction to ride on."""
SETTLE_SECONDS = 0.005
"""How long settlements may. It is short beside what a gateway takes to answer, and places of a queue wait for it.

Measured as told in handover.py, with 10 tasks: 101 transactions for 1,000 messages instead of 150, 192 ms of CPU
instead of 200; with 100 tasks as many as before. With 10 ms there was no more to gain.
"""
MAX_QUEUED_JOBS = 10_000
"""Jobs that wait for the disk."""
MAX_QUEUED_BYTES = 64 * 1024**2
"""Bytes of bodies that wait for the disk."""


class Commits:
    """Lives on the event loop and owns the writer."""

    def __init__(
        self,
        connection: apsw.Connection,
        accepted: Callable[[Sequence[Accept]], None],
        settled: Callable[[Sequence[tuple[int, int]]], None],
        damaged: Callable[[], None],
    ) -> None:
        """*damaged*: told when a page of the file turned out to be damaged."""
        self._damaged = damaged
        self._loop = asyncio.get_running_loop()
        self._accepted = accepted
        self._settled = settled
        self._writer = Writer(connection, self._tell)
        self._room = asyncio.Event()
        self._room.set()
        self._bytes = 0
        self._put: list[SpoolJob] = []
        self._patience = 0.0
        self.queued = 0
        """Jobs that wait for the disk now."""
        self.event_listeners: list[Callable[[], None]] = []

    async def room(self) -> None:
        """Return when there is room for a job."""
        while not self._room.is_set():
            await self._room.wait()

    def put(self, job: SpoolJob, patience: float = 0.0) -> asyncio.Future[None]:
        """Have a job done; the future ends when it is on disk. *patience*: seconds that it may wait for company."""
        self.queued += 1
        self._bytes += job.weight
        if self.queued >= MAX_QUEUED_JOBS or self._bytes >= MAX_QUEUED_BYTES:
            self._room.clear()
        if self._put:
            self._patience = min(self._patience, patience)
        else:
            # All of one turn of the loop wake the writer once: with 100 tasks, measured as above, 20 transactions for
            # 1,000 messages instead of 33, and 158 ms of CPU instead of 162.
            self._loop.call_soon(self.hand_on)
            self._patience = patience
        self._put.append(job)
        return job.future

    def hand_on(self) -> None:
        """Give the writer what was put."""
        if self._put:
            jobs, self._put = self._put, []
            self._writer.put(jobs, self._patience)

    def close(self) -> None:
        """Do what was handed on, and end. Blocks; not for the event loop's thread."""
        self._writer.close()

    def _tell(self, jobs: Sequence[SpoolJob], errors: Sequence[SpoolError | None]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._done, jobs, errors)
        except RuntimeError:
            # The loop was closed without closing the spool; nobody is left to be told.
            return

    def _done(self, jobs: Sequence[SpoolJob], errors: Sequence[SpoolError | None]) -> None:
        accepted: list[Accept] = []
        events = False
        if isinstance(errors[0], SpoolDamaged):
            self._damaged()
        for job, error in zip(jobs, errors, strict=True):
            self.queued -= 1
            self._bytes -= job.weight
            if error is None:
                events = events or bool(job.events)
                if isinstance(job, Accept):
                    accepted.append(job)
                elif isinstance(job, Settle):
                    self._settled(job.returns())
            # Whoever called may have been cancelled; what was begun is done all the same.
            if not job.future.done():
                if error is None:
                    job.future.set_result(None)
                else:
                    job.future.set_exception(error)
        if self.queued < MAX_QUEUED_JOBS and self._bytes < MAX_QUEUED_BYTES:
            self._room.set()
        if accepted:
            self._accepted(accepted)
        if events:
            for event_listener in self.event_listeners:
                event_listener()
