"""Push by mcmt's channel alone: python -m tests.bench.clients.push_channel PORT COUNT PAYLOAD-FILE CA CERT KEY.

The engine's own objects around it: a Delivery with its message for every push, the engine's Link with what is owed on
it, an Outcome for every answer. No spool, no queue, no log.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from mcmt.channel.plugins import load
from mcmt.clock import SystemClock
from mcmt.engine.leases import Leases
from mcmt.engine.lender import Lender
from mcmt.engine.link import Link
from mcmt.engine.route_health import RouteHealth
from mcmt.message.model import Delivery, Part, Sender
from mcmt.message.route import parse_route
from mcmt.message.status import Disposition, Outcome

HEADERS = (("apns-push-type", "alert"), ("apns-priority", "10"))
LOT = 1000


class NoState:
    """A client with a certificate keeps nothing."""

    def get(self, key: str) -> bytes | None:
        """Nothing is there."""
        return None

    def put(self, key: str, value: bytes) -> None:
        """Nothing is kept."""

    def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
        """Nothing is kept."""
        return True


class Source:
    """Makes deliveries as a connection takes them, and counts what becomes of them."""

    def __init__(self, count: int, payload: bytes) -> None:
        self._left = count
        self._owed = count
        self._payload = payload
        self._made = 0
        self._ready: list[Delivery] = []
        self.done = asyncio.get_running_loop().create_future()

    def answered(self, link: Link, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Outcomes came; all are to be good."""
        for _, outcome in batch:
            if outcome.disposition is not Disposition.DELIVERED:
                self.done.set_exception(RuntimeError(repr(outcome)))
        self._owed -= len(batch)
        if not self._owed and not self.done.done():
            self.done.set_result(None)

    def has_room(self, link: Link) -> None:
        """Send while it takes."""
        while self._left and link.usable:
            ready = self._ready or self._make(min(LOT, self._left))
            taken = link.send(ready)
            self._left -= taken
            self._ready = ready[taken:]
            if self._ready:
                return

    def may_connect(self) -> bool:
        """There is one connection, and no more."""
        return False

    def ended(self, link: Link, reason: str) -> None:
        """It must not, before all is answered."""
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))

    def _make(self, count: int) -> list[Delivery]:
        now = time.time()
        first, self._made = self._made, self._made + count
        return [
            Delivery(
                row=number,
                number=1,
                domain="apn.example.com",
                recipient="user@apn.example.com",
                token=f"{number:064x}",
                attempts=0,
                expires=now + 3600,
                sender=Sender(f"{number:024x}", now, "app@example.com", {}),
                part=Part("message/vnd.msys.apn", HEADERS, self._payload),
            )
            for number in range(first, first + count)
        ]


async def push(port: int, count: int, payload: bytes, ca: str, certificate: str, key: str) -> None:
    """Push *count* times over one connection."""
    channel = load("apn")
    options = channel.Options.model_validate(
        {"tls_certificate": certificate, "tls_key": key, "tls_ca": ca, "apn_topic": "com.example.app"}
    )
    clock = SystemClock()
    source = Source(count, payload)
    leases = Leases("apn.example.com", Lender(lambda stanza: 1, clock))
    link = Link(source, RouteHealth(clock, lambda: 0.5, 900.0, lambda news, reason: None), leases, clock, quota=0)
    link.connection = await channel.connect(parse_route(f"apn://localhost:{port}"), options, link, clock, NoState())
    source.has_room(link)
    await source.done
    await link.connection.aclose(1.0)


if __name__ == "__main__":
    uvloop.run(push(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).read_bytes(), *sys.argv[4:7]))
