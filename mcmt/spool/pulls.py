"""Where pulls wait their turn, and where what is out is let in again.

All pulls that were asked for while the last ones were under way go to the reading thread together, so that
many domains cost one hand-over. While they are under way nothing leaves the set of what is out: what a
snapshot showed may be older than what was settled since, and would else be handed out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mcmt.spool.away import AS_IT_WAS, Ledger
from mcmt.spool.reader import Reader, Request


class Pulls:
    """Lives on the event loop; the reader and, while it works, the ledger belong to *thread*."""

    def __init__(self, reader: Reader, ledger: Ledger, thread: ThreadPoolExecutor) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._ledger = ledger
        self._thread = thread
        self._waiting: list[tuple[Request, asyncio.Future[None]]] = []
        self._leaving: list[tuple[int, int]] = []
        self._coming: list[tuple[str, int, int, int]] = []
        self._reading: set[str | None] = set()
        self._left: set[tuple[str, int]] = set()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, request: Request) -> None:
        """Have a request answered; what came of it, an error too, stands in it."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((request, future))
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="spool pulls")
        try:
            await future
        except asyncio.CancelledError:
            # A future that was cancelled itself is seen to in _run.
            if not future.cancelled():
                self.leave(_rows(request))
            raise

    def leave(self, rows: Sequence[tuple[int, int]]) -> None:
        """Deliveries are not out any more: (row, due in microseconds), or GONE or AS_IT_WAS."""
        if self._task is None:
            self._ledger.come_back(rows)
        else:
            self._leaving += rows

    def came(self, domain: str, priority: int, due: int, row: int) -> None:
        """A delivery has come into *domain* that is due later, in microseconds."""
        if self._task is None:
            self._ledger.came(domain, priority, due, row)
        else:
            self._coming.append((domain, priority, due, row))

    def reads(self, domain: str) -> bool:
        """A pull is under way that may see what comes into *domain* now."""
        return domain in self._reading or None in self._reading

    def left(self, domain: str, priority: int) -> None:
        """Deliveries have come into *domain* that only a pull will bring, and not one that is under way."""
        if self.reads(domain):
            self._left.add((domain, priority))
        self._ledger.left(domain, priority)

    async def settle_down(self) -> None:
        """Return when no pull is under way."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = [(request, future) for request, future in self._waiting if not future.done()]
                self._waiting = []
                self._reading = {domain for request, _ in batch for domain in request.domains}
                self._left.clear()
                await self._loop.run_in_executor(self._thread, self._reader.run, [request for request, _ in batch])
                self._reading.clear()
                leaving, self._leaving = self._leaving, []
                self._ledger.come_back(leaving)
                coming, self._coming = self._coming, []
                for one in coming:
                    self._ledger.came(*one)
                for request, future in batch:
                    for priority, row in request.exhausted:
                        if request.domain is not None and (request.domain, priority) not in self._left:
                            self._ledger.found_end(request.domain, priority, row)
                    if future.done():
                        self._ledger.come_back(_rows(request))
                    else:
                        future.set_result(None)
        finally:
            self._reading.clear()
            self._task = None


def _rows(request: Request) -> list[tuple[int, int]]:
    return [(delivery.row, AS_IT_WAS) for delivery in request.deliveries]
