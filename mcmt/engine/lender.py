"""The one who lends connections: ``max_outbound_connections`` of every stanza, over all engines of the machine.

An engine holds what it was granted (mcmt/engine/leases.py) and gives it back when a connection has ended. Who wants
more than there is waits in line: idle connections are asked back at once, busy ones from whoever holds more than its
share, and after ``TURN`` seconds from whoever holds most, so that also a single connection goes round. What an engine
held that died comes back after ``GRACE`` seconds, when the gateway too has seen the connections end.

Rules: no more is ever granted than the stanza's limit; grants go in the order of the wants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from mcmt.clock import Clock, Timer

TURN = 5.0
"""Seconds after which a busy connection is asked back for an engine that has none."""
RECHECK = 1.0
"""Seconds between two looks at who holds what, while somebody waits."""
GRACE = 1.0
"""Seconds until the connections of a dead engine may be lent anew."""


class Holder(Protocol):
    """One engine's part of a stanza's connections."""

    def granted(self) -> None:
        """One more may be opened."""

    def recalled(self, *, busy: bool) -> None:
        """Another engine waits: give one back that is not needed; *busy*: or one that is, when it is answered."""


class Lending(Protocol):
    """What an engine asks of the one who lends."""

    def want(self, stanza: str, holder: Holder) -> None:
        """One more is wanted: ``holder.granted`` is called when it may be had, at once or later."""

    def give_back(self, stanza: str, holder: Holder) -> None:
        """One that was granted is not needed any more."""


class _Pool:
    """The connections of one stanza."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lent = 0
        self.held: dict[Holder, int] = {}
        self.waiting: deque[tuple[Holder, float]] = deque()
        self.timer: Timer | None = None


class Lender:
    """The connections of every stanza."""

    def __init__(self, limit_of: Callable[[str], int], clock: Clock) -> None:
        self._limit_of = limit_of
        self._clock = clock
        self._pools: dict[str, _Pool] = {}

    def want(self, stanza: str, holder: Holder) -> None:
        """See Lending."""
        pool = self._pools.get(stanza)
        if pool is None:
            pool = self._pools[stanza] = _Pool(self._limit_of(stanza))
        if pool.lent < pool.limit and not pool.waiting:
            self._grant(pool, holder)
        else:
            pool.waiting.append((holder, self._clock.monotonic()))
            self._recall(pool)

    def give_back(self, stanza: str, holder: Holder) -> None:
        """See Lending."""
        pool = self._pools[stanza]
        if holder in pool.held:  # or it was taken for dead
            self._lower(pool, holder, 1)
            self._serve(pool)

    def reload(self, limit_of: Callable[[str], int]) -> None:
        """Other limits hold. What is lent past one stays lent until it is given back."""
        self._limit_of = limit_of
        for stanza, pool in self._pools.items():
            pool.limit = limit_of(stanza)
            self._serve(pool)

    def lost(self, holder: Holder) -> None:
        """The engine has died: its connections count for GRACE seconds more, its wants not at all."""
        for pool in self._pools.values():
            pool.waiting = deque(waiting for waiting in pool.waiting if waiting[0] is not holder)
            if count := pool.held.pop(holder, 0):
                self._clock.call_later(GRACE, lambda pool=pool, count=count: self._freed(pool, count))  # type: ignore[misc]

    def _freed(self, pool: _Pool, count: int) -> None:
        pool.lent -= count
        self._serve(pool)

    def _grant(self, pool: _Pool, holder: Holder) -> None:
        pool.lent += 1
        pool.held[holder] = pool.held.get(holder, 0) + 1
        holder.granted()

    @staticmethod
    def _lower(pool: _Pool, holder: Holder, count: int) -> None:
        pool.lent -= count
        left = pool.held.pop(holder) - count
        if left > 0:
            pool.held[holder] = left

    def _serve(self, pool: _Pool) -> None:
        while pool.waiting and pool.lent < pool.limit:
            self._grant(pool, pool.waiting.popleft()[0])
        if not pool.waiting and pool.timer is not None:
            pool.timer.cancel()
            pool.timer = None

    def _recall(self, pool: _Pool) -> None:
        """Somebody waits: ask for what is idle, and for what is busy where that is due."""
        waiter, since = pool.waiting[0]
        claimants = pool.held.keys() | {holder for holder, _ in pool.waiting}
        share = pool.limit // max(1, len(claimants))
        others = [holder for holder in pool.held if holder is not waiter]
        if others:
            richest = max(others, key=pool.held.__getitem__)
            poor = pool.held.get(waiter, 0)
            overdue = not poor and self._clock.monotonic() - since >= TURN
            unfair = pool.held[richest] > share > poor
            for holder in others:
                holder.recalled(busy=holder is richest and (unfair or overdue))
        if pool.timer is None:
            pool.timer = self._clock.call_later(RECHECK, lambda: self._rung(pool))

    def _rung(self, pool: _Pool) -> None:
        pool.timer = None
        if pool.waiting:
            self._recall(pool)
