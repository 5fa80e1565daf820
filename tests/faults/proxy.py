"""A TCP proxy that does to a connection what networks do, at a phase of its life.

It stands in front of a gateway that is not ours and passes octets on as they are, so TLS runs between the engine and
that gateway. A fault begins at one phase, on the first ``times`` connections; the others pass untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import NamedTuple

CHUNK = 65_536
REQUESTS_BEGUN = 10_000
"""Octets from the client that no handshake has: by then it is in the middle of its requests."""


class Phase(IntEnum):
    """How far a connection has come, as far as it can be seen from outside TLS."""

    CONNECT = 0
    """It was accepted; nothing was read."""
    HANDSHAKE = 1
    """The ClientHello is here."""
    SETTINGS = 2
    """The client's second flight is here: the end of its handshake and its SETTINGS."""
    REQUEST = 3
    """Requests are under way."""
    ANSWER = 4
    """So are answers: half of what the gateway said first is passed on."""


class Fault(NamedTuple):
    """What happens, from when on, and to how many connections."""

    act: str
    """``reset`` (RST), ``cut`` (FIN), ``hole`` (nothing passes any more), ``slow`` (*rate*), ``late`` (*delay*)."""
    phase: Phase = Phase.CONNECT
    times: int = 1
    rate: int = 0
    """Octets a second, in each direction."""
    delay: float = 0.0
    """Seconds by which what the gateway says is held back."""


class Proxy:
    """Listens on loopback; ``accepted`` has the time of each connection."""

    def __init__(self, fault: Fault, upstream: int) -> None:
        self._fault = fault
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted: list[float] = []
        self.met = 0
        """Connections that have met the fault."""
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept())
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            self.accepted.append(time.monotonic())
            faulty = len(self.accepted) <= self._fault.times
            self._spawn(_Passage(client, self._upstream, self._fault if faulty else None, self._count).run())

    def _count(self) -> None:
        self.met += 1


class _Passage:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, upstream: int, fault: Fault | None, met: Callable[[], None]) -> None:
        self._met = met
        self._client = client
        self._server = socket.socket()
        self._upstream = upstream
        self._fault = fault
        self._has_met = False
        self._said = 0
        self._answered = False
        self._slowed = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for each in (self._client, self._server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._meet(Phase.CONNECT)
            await loop.sock_connect(self._server, ("127.0.0.1", self._upstream))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up())
                group.create_task(self._down())
        except* (OSError, _Ended):
            pass
        finally:
            self._client.close()
            self._server.close()

    async def _up(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._client, CHUNK):
            self._said += len(data)
            phase = Phase.SETTINGS if self._answered else Phase.HANDSHAKE
            await self._pass(data, self._server, Phase.REQUEST if self._said > REQUESTS_BEGUN else phase)
        raise _Ended

    async def _down(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._server, CHUNK):
            self._answered = True
            await self._pass(data, self._client, Phase.ANSWER if self._said > REQUESTS_BEGUN else Phase.CONNECT)
        raise _Ended

    async def _pass(self, data: bytes, to: socket.socket, phase: Phase) -> None:
        loop = asyncio.get_running_loop()
        fault = self._fault
        if fault is not None and phase >= fault.phase and phase is not Phase.CONNECT:
            if phase is Phase.ANSWER and fault.act != "late":
                await loop.sock_sendall(to, data[: len(data) // 2])
                data = data[len(data) // 2 :]
            await self._meet(phase)
        if fault is not None and fault.act == "slow" and self._slowed:
            for start in range(0, len(data), max(1, fault.rate // 20)):
                await loop.sock_sendall(to, data[start : start + max(1, fault.rate // 20)])
                await asyncio.sleep(max(1, fault.rate // 20) / fault.rate)
            return
        if fault is not None and fault.act == "late" and to is self._client:
            await asyncio.sleep(fault.delay)
        await loop.sock_sendall(to, data)

    async def _meet(self, phase: Phase) -> None:
        """Do what the fault does, if it begins at *phase* or has begun before."""
        fault = self._fault
        if fault is None or phase < fault.phase:
            return
        if not self._has_met:
            self._has_met = True
            self._met()
        if fault.act == "reset":
            # SO_LINGER of 0: close sends RST (tcp(7)).
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise _Ended
        if fault.act == "cut":
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_WR)
            raise _Ended
        if fault.act == "hole":
            await asyncio.Event().wait()
        self._slowed = fault.act == "slow"


class _Ended(Exception):  # noqa: N818 - no error: one side is done
    """The passage is over."""
