"""Deliveries of one queue that a later message has replaced (``replace_queued``): they are ended and not sent.

The spool marks them in the transaction that accepts the later message, so whoever pulls one of them, now or after a
crash, sees the mark. Those that nobody had out when the mark was made are fetched and ended at once; what was ready is
taken out of the queue; of what is on the wire the answer decides, and only if that is not the end, the delivery ends
here instead of being tried again.

Rules: one final line each, and no report: it is what the sender wanted. Marks are the spool's; what is remembered here
is what was pulled before them, and goes with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from mcmt.config.settings import DomainSettings
from mcmt.engine.ready import Ready
from mcmt.engine.settler import Settled
from mcmt.engine.shared import Shared
from mcmt.errors import SpoolError
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome
from mcmt.spool.port import Settlement

TEXT = "5.7.0 [internal] superseded by {}"
_AT_ONCE = 500
"""Deliveries fetched and ended in one transaction."""


class Replacing:
    """Of one queue. *settled*: told of those that the queue held."""

    def __init__(self, domain: str, shared: Shared, ready: Ready, settled: Settled) -> None:
        self._domain = domain
        self._shared = shared
        self._ready = ready
        self._settled = settled
        self._rows: dict[int, str] = {}
        """Out, and perhaps without the mark; and by what they are replaced."""
        self._waiting: dict[int, str] = {}
        self._task: asyncio.Task[None] | None = None

    def replace(self, rows: Mapping[int, str], settings: DomainSettings) -> None:
        """A commit has replaced these."""
        self._rows.update(rows)
        self.sort_out(self._ready.remove(rows), settings)
        self._fetch(rows, settings)

    def pulled(self, deliveries: Sequence[Delivery], settings: DomainSettings) -> Sequence[Delivery]:
        """Those of a pull that the queue is to have; what has the mark is ended."""
        self._rows.update({one.row: one.superseded for one in deliveries if one.superseded})
        return self.sort_out(deliveries, settings)

    def sort_out(self, deliveries: Sequence[Delivery], settings: DomainSettings) -> Sequence[Delivery]:
        """Those of a queue's deliveries that are not replaced; the others are ended."""
        if not self._rows:
            return deliveries
        dead = {one.row: by for one in deliveries if (by := self._rows.get(one.row, ""))}
        self._end([one for one in deliveries if one.row in dead], dead, settings, self._settled)
        return [one for one in deliveries if one.row not in dead]

    def settle(self, settlements: Sequence[Settlement], settings: DomainSettings) -> None:
        """These were settled: what is to be tried again is ended instead."""
        if self._rows:
            # What ended is forgotten; what is due again is in the spool, with its mark.
            known = [(one, by) for one in settlements if (by := self._rows.pop(one.row, ""))]
            self._fetch({one.row: by for one, by in known if one.retry_at is not None}, settings)

    def forget(self) -> None:
        """The queue holds nothing: what is pulled from now on has the mark."""
        self._rows.clear()

    async def drain(self) -> None:
        """Finish what was begun."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _fetch(self, rows: Mapping[int, str], settings: DomainSettings) -> None:
        self._waiting.update(rows)
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(settings), name="superseded")

    async def _run(self, settings: DomainSettings) -> None:
        try:
            while self._waiting:
                some = dict(list(self._waiting.items())[:_AT_ONCE])
                for row in some:
                    del self._waiting[row]
                taken = (await self._shared.spool.take(dict.fromkeys(some, self._domain))).deliveries
                self._end(taken, some, settings, None)
                for one in taken:
                    self._rows.pop(one.row, None)
        except SpoolError:
            self._waiting.clear()  # whoever pulls them sees the mark
        finally:
            self._task = None

    def _end(
        self,
        deliveries: Sequence[Delivery],
        by: Mapping[int, str],
        settings: DomainSettings,
        settled: Settled | None,
    ) -> None:
        silent = msgspec.structs.replace(settings, generate_bounces=False)
        kinds: dict[str, list[Delivery]] = {}
        for one in deliveries:
            kinds.setdefault(by[one.row], []).append(one)
        for batch_id, some in kinds.items():
            outcome = Outcome(disposition=Disposition.PERMANENT, code="554", text=TEXT.format(batch_id))
            self._shared.settler.fail(some, outcome, silent, self._shared.clock.time(), settled)
