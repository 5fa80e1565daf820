"""The one who grants permits: the throttles of the configuration, over all engines of the machine.

A throttle is a bucket that fills with time, up to ``BURST`` seconds' worth, and never less than one permit. Each
delivery that is begun, and each connection that is opened, takes a permit out of it. An engine asks for as many as it
has use for (mcmt/engine/allowance.py) and gives back at once what it does not use after all. Who finds too few waits
in line, and all that wait get their parts in turn, ``SLICE`` seconds' worth at a time: one timer a throttle, however
much waits.

What an engine held that died is lost with it, which is a fraction of a second's worth: it never comes back, so that
nothing is counted too little, and the bucket fills with time again.

Rules: in any span of time no more is granted than the rate allows in it, and ``BURST`` seconds' worth (at least one).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mcmt.clock import Clock, Timer
from mcmt.config.rate import Rate

BURST = 0.25
"""Seconds' worth that a throttle which nobody draws on saves up."""
SLICE = 0.1
"""Seconds' worth that is granted at a time while somebody waits: ten times a second, not once a delivery."""
_EPSILON = 1e-6
"""Of a permit: what the sums of fractions may lack."""


class PermitHolder(Protocol):
    """One engine's part of a throttle."""

    def permitted(self, count: int) -> None:
        """So many may be begun now. What is not begun before this returns, or a little later, is given back."""


class Granting(Protocol):
    """What an engine asks of the one who grants."""

    def ask(self, throttle: str, holder: PermitHolder, count: int) -> None:
        """*count* permits are wanted: ``holder.permitted`` is called with 1 to *count*, now or later.

        A holder asks again when it has been answered."""

    def give_back(self, throttle: str, holder: PermitHolder, count: int) -> None:
        """*count* permits were not used."""


class _Bucket:
    """One throttle."""

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self.level = self.most
        self.filled = now
        self.waiting: dict[PermitHolder, int] = {}  # in the order of their asks
        self.timer: Timer | None = None

    @property
    def most(self) -> float:
        """Permits that it holds when it is full."""
        return max(1.0, self.rate.per_second * BURST)

    def fill(self, now: float) -> int:
        """Let in what has come since the last look; the whole permits that there are."""
        self.level = min(self.most, self.level + (now - self.filled) * self.rate.per_second)
        self.filled = now
        return int(self.level + _EPSILON)

    def delay(self) -> float:
        """Seconds until it is worth looking again: a slice is there, or all that is waited for."""
        wanted = min(sum(self.waiting.values()), max(1.0, self.rate.per_second * SLICE))
        return max(0.0, wanted - self.level) / self.rate.per_second


class Throttles:
    """Every throttle, by its name (mcmt/config/throttle.py)."""

    def __init__(self, rates: Mapping[str, Rate], clock: Clock) -> None:
        self._clock = clock
        self._buckets = {name: _Bucket(rate, clock.monotonic()) for name, rate in rates.items()}

    def ask(self, throttle: str, holder: PermitHolder, count: int) -> None:
        """See Granting."""
        bucket = self._buckets.get(throttle)
        if bucket is None:  # the configuration that holds now has no such limit; the engine reads it in a moment
            holder.permitted(count)
            return
        there = 0 if bucket.waiting else bucket.fill(self._clock.monotonic())
        if there:
            granted = min(there, count)
            bucket.level -= granted
            holder.permitted(granted)
        else:
            bucket.waiting[holder] = count
            self._wait(bucket)

    def give_back(self, throttle: str, holder: PermitHolder, count: int) -> None:  # noqa: ARG002 - the protocol's
        """See Granting."""
        bucket = self._buckets.get(throttle)
        if bucket is not None:
            bucket.fill(self._clock.monotonic())
            bucket.level = min(bucket.most, bucket.level + count)
            if bucket.waiting and bucket.timer is not None:
                bucket.timer.cancel()
                bucket.timer = None
                self._wait(bucket)  # not at once: who gives back is in the middle of its own work

    def lost(self, holder: PermitHolder) -> None:
        """The engine has died: it waits no more."""
        for bucket in self._buckets.values():
            bucket.waiting.pop(holder, None)

    def reload(self, rates: Mapping[str, Rate]) -> None:
        """Other rates hold. Who waits at a throttle that is no more waits no more."""
        before, now = self._buckets, self._clock.monotonic()
        self._buckets = {}
        for name, rate in rates.items():
            bucket = self._buckets[name] = before.pop(name) if name in before else _Bucket(rate, now)
            bucket.fill(now)  # by the rate that held
            bucket.rate, bucket.level = rate, min(bucket.level, max(1.0, rate.per_second * BURST))
            if bucket.timer is not None:
                bucket.timer.cancel()
                bucket.timer = None
            self._wait(bucket)
        for bucket in before.values():
            if bucket.timer is not None:
                bucket.timer.cancel()
            for holder, count in bucket.waiting.items():
                self._clock.call_later(0.0, lambda holder=holder, count=count: holder.permitted(count))  # type: ignore[misc]

    def _wait(self, bucket: _Bucket) -> None:
        if bucket.waiting and bucket.timer is None:
            bucket.timer = self._clock.call_later(bucket.delay(), lambda: self._rung(bucket))

    def _rung(self, bucket: _Bucket) -> None:
        bucket.timer = None
        there = bucket.fill(self._clock.monotonic())
        parts = []
        while there and bucket.waiting:
            # A part each: who wants less leaves the rest to the others.
            share = -(-there // len(bucket.waiting))
            holder = next(iter(bucket.waiting))
            granted = min(share, bucket.waiting.pop(holder))
            there -= granted
            bucket.level -= granted
            parts.append((holder, granted))
        for holder, granted in parts:  # each may ask anew, and then is behind those that wait still
            holder.permitted(granted)
        self._wait(bucket)
