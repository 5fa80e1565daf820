"""One client's connection, below what is asked on it: requests in turn, the deadline, the end.

Rules: one request is answered at a time, and what comes behind it waits, as it does while the client does not read its
answers; octets count in the intake's memory while they are held; a request that is being answered when the engine stops
gets its answer, and the connection ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import struct
import termios
from collections.abc import Callable
from typing import NamedTuple, cast

from mcmt.clock import Clock, Timer
from mcmt.intake import limits
from mcmt.intake.door import Entrance, client_of
from mcmt.intake.exchanges import Exchanges, Said
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.requests.door import About, Answer, Callback, Client, RequestDoor
from mcmt.wire.http1 import Request, RequestParser, Response

log = logging.getLogger(__name__)

NO_ROOM = "too many messages are being received (max_intake_bytes); try again later"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Station(NamedTuple):
    """One address, as its connections know it."""

    door: RequestDoor
    clock: Clock
    random_bits: Callable[[int], int]
    sessions: Entrance
    memory: IntakeMemory


class RequestConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, station: Station, loop: asyncio.AbstractEventLoop) -> None:
        self._station = station
        self._loop = loop
        self._parser = RequestParser(station.door.max_message_size)
        self._taken = 0
        """Octets that count in the memory."""
        self._since = station.clock.monotonic()
        self._begun = False
        """Octets have come since the last answer."""
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._received: Callback | None = None
        self._clogged = False
        """The client does not read what it is told."""
        self._exchanges: Exchanges | None = None
        """While somebody watches."""
        self._stopping = False
        self._eof = False
        self._ended = False
        self._gone = False

    # -- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, or turn away what is one connection too many."""
        self._wire = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = peer[0].partition("%")[0] if peer else ""
        self._who = address, f"{self._station.random_bits(64):016x}"
        refusal = self._station.sessions.admit(self, client_of(address))
        if refusal is not None:
            self._end(self._station.door.busy(refusal.text))
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Octets of requests; after our last word nobody reads them."""
        if self._ended:
            return
        if not self._station.memory.take(len(data)):
            if self._task is None:
                self._end(self._station.door.busy(NO_ROOM))
            else:
                # What is being answered comes first; the connection ends with that.
                self._stopping = True
            return
        self._taken += len(data)
        if not self._begun:
            # Once a request, whatever is left of what came: empty lines before it would put off its deadline for ever.
            self._begun = True
            self._since = self._station.clock.monotonic()
        self._parser.receive(data)
        if self._task is None and not self._clogged:
            self._next()
        elif self._parser.held > limits.READ:
            self._wire.pause_reading()

    def pause_writing(self) -> None:
        """More waits for the client to read it than should."""
        self._clogged = True

    def resume_writing(self) -> None:
        """The client has read what it was told."""
        self._clogged = False
        if self._task is None and not self._ended:
            self._go_on()

    def eof_received(self) -> bool:
        """The client sends nothing more: what it has asked is answered. All of an answer that it has is received."""
        self._eof = True
        if self._task is None and not self._clogged:
            self._confirm()
            return False
        return True

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - why it was lost changes nothing
        """What is being kept is kept all the same."""
        self._gone = self._ended = True
        if self._exchanges is not None:
            self._exchanges.lost()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None:
            self._leave()

    # -- requests ------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        request = self._parser.take()
        if request is not None:
            # Whoever asks again has read what it was told before.
            received, self._received = self._received, None
            self._task = self._loop.create_task(self._work(request, received), name="request")
        elif self._parser.refusal is not None:
            self._end(self._station.door.refuse(self._parser.refusal))
        elif self._eof or (self._stopping and not self._parser.held):
            self._close()
        elif self._parser.continues:
            self._parser.continues = False
            self._wire.write(_CONTINUE)

    async def _work(self, request: Request, received: Callback | None) -> None:
        try:
            if received is not None:
                await received()
            client = Client(*self._who, About())
            answer = await self._station.door.answer(request, client)
            if self._station.door.tracing.watched and client.about.domain:
                self._show(request, answer.response, client.about)
            if not self._gone:
                self._say(answer, keep_alive=request.keep_alive and not self._stopping and not self._eof)
        except Exception:
            log.exception("%s %s: a fault of ours", *reversed(self._who))
            self.abort()
        finally:
            self._task = None
            self._since = self._station.clock.monotonic()
            self._begun = bool(self._parser.held)
            self._account()
        if self._gone:
            self._leave()
        elif not self._ended and not self._clogged:
            self._go_on()

    def _go_on(self) -> None:
        self._wire.resume_reading()
        self._next()

    def _show(self, request: Request, response: Response, about: About) -> None:
        """Tell those who watch the request's domain."""
        door = self._station.door
        if self._exchanges is None:
            self._exchanges = Exchanges(door.tracing, self._who[0], door.protocol)
        body = request.body if about.shown is None else about.shown()
        status, fields = response.status, (("Content-Type", response.content_type), *response.more)
        asked = Said(f"{request.method} {request.path}", tuple(request.fields.items()), len(request.body), body)
        answered = Said(f"{status.value} {status.phrase}", fields, len(response.body), response.body, about.public)
        self._exchanges.tell((about.domain,), asked, answered)

    def _say(self, answer: Answer, *, keep_alive: bool) -> None:
        self._received = answer.received
        self._wire.write(answer.response.encode(keep_alive=keep_alive))
        if not keep_alive:
            self._end()

    def _account(self) -> None:
        """Give back what is held no more."""
        held = self._parser.held
        self._station.memory.give_back(self._taken - held)
        self._taken = held

    def _confirm(self) -> None:
        """The client has closed: if nothing is unacknowledged, it has all that it was told."""
        received, self._received = self._received, None
        if received is None or self._gone:
            return
        with contextlib.suppress(OSError, ValueError):
            descriptor = self._wire.get_extra_info("socket").fileno()
            (unacknowledged,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
            # Where our own end of the connection is said, it is an octet of that count until it is acknowledged.
            if not unacknowledged and not self._wire.get_write_buffer_size():
                self._task = self._loop.create_task(self._tell(received), name="request received")

    async def _tell(self, received: Callback) -> None:
        try:
            await received()
        except Exception:
            log.exception("%s %s: a fault of ours", *reversed(self._who))
        finally:
            self._task = None
        if self._gone:
            self._leave()

    # -- the deadline and the end ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        clock, limit = self._station.clock, self._station.door.idle_timeout
        left = limit if self._task is not None else self._since + limit - clock.monotonic()
        if left > 0:
            self._timer = clock.call_later(left, self._watch)
        elif self._clogged:
            self.abort()
        else:
            self._close()

    def _end(self, response: Response | None = None) -> None:
        """Say *response* and the end of our side; what still comes is thrown away until the client has closed."""
        if self._ended:
            return
        self._ended = True
        if response is not None:
            self._wire.write(response.encode(keep_alive=False))
        if self._timer is not None:
            self._timer.cancel()
        if self._eof:
            self._close()
            return
        # A close in the face of a client that still writes is a reset, which takes the answer with it.
        self._timer = self._station.clock.call_later(limits.LINGER, self._wire.abort)
        self._wire.resume_reading()
        with contextlib.suppress(OSError):
            self._wire.write_eof()

    def _close(self) -> None:
        self._ended = True
        if not self._wire.is_closing():
            self._wire.close()
        if self._wire.get_write_buffer_size():
            # A client that does not read would keep the connection open for ever.
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._station.clock.call_later(limits.LINGER, self._wire.abort)

    def _leave(self) -> None:
        self._station.memory.give_back(self._taken)
        self._taken = 0
        self._station.sessions.discard(self)

    def drain(self) -> None:
        """Answer what has come, and end."""
        self._stopping = True
        if self._task is None and not self._ended:
            self._close()

    def abort(self) -> None:
        """End now."""
        if not self._gone:
            self._wire.abort()
