"""One client's connection, below HTTP: who may have one, how long it may be silent, and its end.

What is said is aiohttp's business, to which everything is passed on. Rules: a client that is turned away is told so in
HTTP; a request that is being answered when the engine stops gets its answer, and the connection ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from mcmt.clock import Clock, Timer
from mcmt.config.settings import HttpAddressSettings
from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.intake.door import Entrance, client_of
from mcmt.intake.exchanges import Exchanges
from mcmt.intake.http.problem import CONTENT_TYPE, SOON, Problem
from mcmt.intake.http.submission import Submission


class HttpDoor(NamedTuple):
    """One address, as its connections know it."""

    settings: HttpAddressSettings
    clock: Clock
    random_bits: Callable[[int], int]
    sessions: Entrance
    protocol: Callable[[], Any]
    """Makes an aiohttp RequestHandler."""
    connections: dict[Any, HttpConnection]
    """By RequestHandler, so that a request knows its connection."""


class HttpConnection(asyncio.Protocol):
    """Stands between the transport and aiohttp."""

    def __init__(self, door: HttpDoor) -> None:
        self._door = door
        self._inner: Any = None
        self._since = door.clock.monotonic()
        """Since when the client is waited for."""
        self._answering = 0
        self._stopping = False
        self._timer: Timer | None = None
        self.exchanges: Exchanges | None = None
        """While somebody watches."""
        self.asked: tuple[bytes, Submission | None] | None = None
        """Then also of the request that is being answered: its body, and what it was read as."""
        self.id = f"{door.random_bits(64):016x}"
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have aiohttp speak, or turn away what is one connection too many."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0].partition("%")[0] if peer else ""
        refusal = self._door.sessions.admit(self, client_of(self.peer))
        if refusal is not None:
            self._turn_away(refusal)
            return
        self._inner = self._door.protocol()
        self._door.connections[self._inner] = self
        self._inner.connection_made(transport)
        self._watch()

    def _turn_away(self, refusal: MessageError) -> None:
        problem = Problem(503, refusal.text, retry_after=SOON)
        body = problem.body()
        head = (
            f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"Retry-After: {SOON}\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        # What the client still sends is thrown away meanwhile: a reset would take the answer with it.
        self._timer = self._door.clock.call_later(limits.LINGER, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """For aiohttp."""
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """For aiohttp."""
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """For aiohttp."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """For aiohttp."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()
        if self.exchanges is not None:
            self.exchanges.lost()
        if self._inner is not None:
            self._inner.connection_lost(error)
            del self._door.connections[self._inner]
            self._door.sessions.discard(self)

    # -- requests ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The head of a request has come."""
        self._answering += 1

    def end(self) -> None:
        """It is answered."""
        self._answering -= 1
        self._since = self._door.clock.monotonic()
        if self._stopping and not self._answering:
            self._inner.close()

    def _watch(self) -> None:
        clock, limit = self._door.clock, self._door.settings.idle_timeout
        left = limit if self._answering else self._since + limit - clock.monotonic()
        if left > 0:
            self._timer = clock.call_later(left, self._watch)
        elif self._transport.get_write_buffer_size():
            # A client that reads nothing: a close would wait for it.
            self._transport.abort()
        else:
            self._transport.close()

    # -- the end ----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Answer what has come, and end."""
        self._stopping = True
        if not self._answering:
            self._transport.close()

    def abort(self) -> None:
        """End now."""
        self._transport.abort()
