"""Letting go of outbox rows whose lines are in the logs: with whatever is written next, and again where that failed.

Lives on the event loop.
"""

from __future__ import annotations

import asyncio

from mcmt.clock import Clock
from mcmt.spool.commits import LAZY_SECONDS, Commits
from mcmt.spool.jobs import Acknowledge

_DELAY = 1.0
"""Seconds until rows that could not be let go are let go again."""


class Acknowledging:
    """How far the outbox has been acknowledged."""

    def __init__(self, commits: Commits, clock: Clock) -> None:
        self._commits = commits
        self._clock = clock
        self._through = 0
        self._closed = False

    def through(self, sequence: int) -> None:
        """Let rows go up to *sequence*, within moments; nobody waits for it."""
        self._through = max(self._through, sequence)
        self._let_go(self._through)

    def close(self) -> None:
        """What is not let go yet stays."""
        self._closed = True

    def _let_go(self, through: int) -> None:
        def done(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is not None:
                self._clock.call_later(_DELAY, again)

        def again() -> None:
            if through == self._through and not self._closed:
                self._let_go(through)

        job = Acknowledge(asyncio.get_running_loop().create_future(), through)
        self._commits.put(job, LAZY_SECONDS).add_done_callback(done)
