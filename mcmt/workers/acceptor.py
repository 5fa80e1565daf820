"""The listening sockets of an engine with several workers: accepts, counts, and passes each connection to a worker.

The kernel could spread connections over workers (SO_REUSEPORT), but by chance, and no worker would know how many the
others have: here the one with the fewest sessions gets the next, and ``max_connections`` and
``max_connections_per_address`` hold for the machine. It costs 30 us a connection.

Rules: never speaks to a client; while no worker can take a connection, those that come wait in the kernel's backlog.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Sequence

from mcmt.clock import Clock
from mcmt.config.settings import AddressSettings
from mcmt.errors import MessageError
from mcmt.intake.door import SessionLimits, client_of, is_listed
from mcmt.intake.reminder import Reminder
from mcmt.intake.sockets import Bind, bind_all
from mcmt.workers.passing import pass_on

log = logging.getLogger(__name__)

_AT_ONCE = 64
PAUSE = 0.5
"""Seconds until accepting is tried again after it failed, for want of file descriptors mostly."""


class Sink:
    """A worker as connections see it."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.addresses: Counter[str] = Counter()
        """Sessions by client."""
        self.sessions = 0


class Acceptor:
    """Every address of ``Settings.addresses``."""

    def __init__(
        self, listen: Sequence[AddressSettings], limits: SessionLimits, clock: Clock, bind: Bind = bind_all
    ) -> None:
        self._listen = listen
        self._bind = bind
        self._limits = limits
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._reminder = Reminder(clock)
        self._sockets: list[tuple[int, socket.socket]] = []
        self._sinks: list[Sink] = []
        self._accepting = False
        self._closed = False
        self.listening: tuple[tuple[str, str, int], ...] = ()
        """What is spoken, host and port of every socket, once open."""

    @property
    def sessions(self) -> int:
        """Clients connected."""
        return self._limits.count

    def open(self) -> None:
        """Listen; connections wait until there is a worker. Raises ListenError."""
        for number, sockets in enumerate(self._bind(self._listen)):
            self._sockets += [(number, one) for one in sockets]
        self.listening = tuple((self._listen[number].word, *one.getsockname()[:2]) for number, one in self._sockets)

    def close(self) -> None:
        """Listen no more. Connections that were not accepted are reset."""
        self._closed = True
        self._pause()
        for _, one in self._sockets:
            one.close()
        self._sockets.clear()

    def add(self, sink: Sink) -> None:
        """A worker takes connections from now on."""
        self._sinks.append(sink)
        self._go_on()

    def remove(self, sink: Sink) -> None:
        """A worker is gone, and all its sessions with it."""
        if sink not in self._sinks:
            return
        self._sinks.remove(sink)
        for address in sink.addresses.elements():
            self._limits.left(address)
        if not self._sinks:
            self._pause()

    def left(self, sink: Sink, address: str) -> None:
        """A session of a worker has ended."""
        if sink in self._sinks and sink.addresses[address] > 0:
            sink.addresses[address] -= 1
            sink.sessions -= 1
            if not sink.addresses[address]:
                del sink.addresses[address]
            self._limits.left(address)

    def move(self, sink: Sink, address: str, to: str) -> MessageError | None:
        """A session of a worker counts for *to* in place of *address*; or what its client is told instead."""
        if sink not in self._sinks or not sink.addresses[address]:
            return None
        refusal = self._limits.moved(address, to)
        if refusal is None:
            sink.addresses[to] += 1
            sink.addresses[address] -= 1
            if not sink.addresses[address]:
                del sink.addresses[address]
        return refusal

    def reload(self, listen: Sequence[AddressSettings]) -> None:
        """Other settings hold, of the same addresses."""
        self._listen = listen

    def _go_on(self) -> None:
        if not self._accepting and not self._closed and self._sinks:
            self._accepting = True
            for number, one in self._sockets:
                self._loop.add_reader(one.fileno(), self._accept, number, one)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for _, one in self._sockets:
                self._loop.remove_reader(one.fileno())

    def _accept(self, number: int, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, peer = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if times := self._reminder.count():
                    log.error("connections cannot be accepted, tried %d times: %s", times, error)
                self._rest()
                return
            with connection:
                # An IPv6 address may end in its zone, which means nothing to anybody else (RFC 4007 11.2).
                address = str(peer[0]).partition("%")[0]
                proxies = self._listen[number].proxies
                address = "" if proxies and is_listed(address, proxies) else client_of(address)
                if not self._pass_on(number, connection, address):
                    self._rest()
                    return

    def _pass_on(self, number: int, connection: socket.socket, address: str) -> bool:
        refusal = self._limits.admit(address)
        for sink in sorted(self._sinks, key=lambda sink: sink.sessions):
            if pass_on(sink.end, number, connection, address, refusal):
                # Of those with as many sessions, the one that has waited longest is next: clients that connect for one
                # message each would all be the first one's.
                self._sinks.remove(sink)
                self._sinks.append(sink)
                if refusal is None:
                    sink.addresses[address] += 1
                    sink.sessions += 1
                return True
        if refusal is None:
            self._limits.left(address)
        return False

    def _rest(self) -> None:
        """Every worker's end is full, or descriptors are short: leave the rest to the backlog for a while."""
        self._pause()
        self._clock.call_later(PAUSE, self._go_on)
