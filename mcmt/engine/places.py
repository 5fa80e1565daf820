"""The places of one queue in memory: how many deliveries it holds, and how many more it may take now.

Rules: what is ready is refilled only when little of it is left, so that memory is bounded whatever the backlog; what is
urgent is not kept waiting by what is ready of lower priorities, and takes the places of such ones when there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcmt.config.settings import DomainSettings
from mcmt.engine.ready import Ready
from mcmt.engine.residency import Residency
from mcmt.message.model import Delivery
from mcmt.message.priority import BULK

PULL_LIMIT = 500
"""Deliveries a pull; the queue is refilled when fewer than this are ready."""
PULL_BYTES = 8 * 1024**2
"""Bytes of bodies a pull; the queue is refilled when those that are ready have fewer than this."""
PULL_COLD = 50
"""Deliveries pulled while no connection is warm: enough to see that one is wanted."""


class Places:
    """Those of one queue."""

    def __init__(self, ready: Ready, residency: Residency, release: Callable[[Sequence[Delivery]], None]) -> None:
        """*release*: has deliveries that were ready due in the spool again."""
        self._ready = ready
        self._residency = residency
        self._release = release
        self.taken = 0

    def leave(self, count: int) -> None:
        """So many deliveries are not held any more."""
        self.taken -= count
        self._residency.leave(count)

    def make(self, settings: DomainSettings, lowest: int, *, warm: bool) -> int:
        """Places for the deliveries of one pull of priority *lowest* and above, entered as taken; 0: enough is."""
        urgent = lowest > BULK
        if self._holds_enough(lowest, warm) or (urgent and len(self._ready) == self._ready.count(lowest)):
            return 0
        wanted = PULL_LIMIT if warm else PULL_COLD
        entered = self._enter(settings, wanted)
        if urgent and not entered and (given := self._ready.give_up(PULL_COLD, lowest)):
            self._release(given)
            self.leave(len(given))
            entered = self._enter(settings, wanted)
        return entered

    def _enter(self, settings: DomainSettings, wanted: int) -> int:
        entered = self._residency.enter(min(wanted, settings.max_resident_active_queue - self.taken), self.taken)
        self.taken += entered
        return entered

    def _holds_enough(self, lowest: int, warm: bool) -> bool:
        count = self._ready.count(lowest)
        if not warm or count >= PULL_LIMIT:
            return bool(count)
        if lowest > BULK:
            return False
        # Deliveries of one pull share their message's parts.
        return sum({id(one.part): len(one.part.content) for one in self._ready}.values()) >= PULL_BYTES
