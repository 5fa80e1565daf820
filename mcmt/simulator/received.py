"""What the simulator remembers: pushes received, counts, connections, and what clients did wrong.

Everything here is bounded: old pushes are forgotten first, counters have as many keys as there are
reasons, violations stop being written down (but not counted) at MAX_VIOLATIONS.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping

import msgspec

MAX_VIOLATIONS = 1_000
_MAX_ACCEPTED_IDS = 200_000


class Received(msgspec.Struct, frozen=True):
    """One push, as it came and as it was judged."""

    token: str
    """As in the path; empty when the path had none."""
    apns_id: str
    """The client's, else the one the simulator made."""
    headers: Mapping[str, str]
    """Every header field, pseudo-headers too. ``authorization`` is a secret for an hour: do not print it."""
    payload: bytes
    status: int
    """What was answered; 0 where a fault took the answer's place."""
    reason: str
    """Apple's reason; empty with 200; with status 0 the fault, as in ``no answer``."""
    connection: int
    """1 for the first connection of this simulator."""
    stream: int
    at: float
    """Seconds since the epoch, when the push was complete."""

    @property
    def topic(self) -> str:
        """The apns-topic header, or nothing."""
        return self.headers.get("apns-topic", "")


class Ledger:
    """The simulator's memory."""

    def __init__(self, history: int, on_received: Callable[[Received], None] | None) -> None:
        self.received: deque[Received] = deque(maxlen=history)
        self.arrived = 0
        self.total = 0
        self.counts: Counter[tuple[int, str]] = Counter()
        self.violations: list[str] = []
        self.violations_total = 0
        self.connections_total = 0
        self.connections_open = 0
        self.connections_peak = 0
        self.streams_peak = 0
        self._on_received = on_received
        self._accepted: OrderedDict[str, None] = OrderedDict()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def add(self, push: Received) -> None:
        """Note one push and what became of it."""
        self.received.append(push)
        self.total += 1
        self.counts[push.status, push.reason] += 1
        if self._on_received is not None:
            self._on_received(push)

    def arrive(self) -> None:
        """Note that a request came whole, and wake those who waited for it."""
        self.arrived += 1
        if self._waiting:
            self._wake()

    def accepted(self, apns_id: str, connection: int, stream: int) -> None:
        """Note that a 200 for the client's own *apns_id* was written; the second one is a violation."""
        if apns_id in self._accepted:
            self.violation(f"connection {connection}, stream {stream}: apns-id {apns_id} was already answered with 200")
            return
        self._accepted[apns_id] = None
        if len(self._accepted) > _MAX_ACCEPTED_IDS:
            self._accepted.popitem(last=False)

    def violation(self, text: str) -> None:
        """Note that a client broke a rule that Apple would punish."""
        self.violations_total += 1
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(text)

    def opened(self) -> int:
        """Note a new connection; its number."""
        self.connections_total += 1
        self.connections_open += 1
        self.connections_peak = max(self.connections_peak, self.connections_open)
        return self.connections_total

    async def wait_for(self, total: int) -> None:
        """Return once *total* pushes came whole since the start."""
        if self.arrived < total:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((total, future))
            await future

    def _wake(self) -> None:
        still = []
        for total, future in self._waiting:
            if future.done():
                continue
            if self.arrived >= total:
                future.set_result(None)
            else:
                still.append((total, future))
        self._waiting = still
