"""The addresses of the doors for requests, on the running event loop.

Rules: as those of the SMTP listener (mcmt/intake/listener.py), whose limits, memory and way to the spool they share.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial

from mcmt.channel.port import State
from mcmt.clock import Clock
from mcmt.config.settings import AddressSettings, Settings
from mcmt.intake import limits
from mcmt.intake.door import Admission, Sessions
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.propeller import PropellerDoor
from mcmt.intake.pyapns import Make, Provisioning, PyapnsDoor
from mcmt.intake.reception import Reception
from mcmt.intake.requests.connection import RequestConnection, Station
from mcmt.intake.requests.door import RequestDoor
from mcmt.intake.sockets import Bind, bind_all
from mcmt.spool.port import GoneTokens


class RequestListener:
    """All of them and their connections."""

    def __init__(
        self,
        settings: Settings,
        reception: Reception,
        memory: IntakeMemory,
        admission: Admission,
        clock: Clock,
        random_bits: Callable[[int], int],
        gone_tokens: GoneTokens | None,
        state: State | None,
        bind: Bind = bind_all,
        make: Make | None = None,
    ) -> None:
        """*state*: where what clients of pyapns provision is kept; without it there are none. *make*: makes domains."""
        self._clock = clock
        self._bind = bind
        self._sessions = Sessions(admission)
        self._servers: list[asyncio.Server] = []
        self._pyapns: list[PyapnsDoor] = []
        if state is not None:
            provisioning = Provisioning(state)
            most = settings.max_deliveries_per_message
            self._pyapns += [
                PyapnsDoor(one, reception, provisioning, gone_tokens, most, make, clock.time) for one in settings.pyapns
            ]
        self._propeller = [PropellerDoor(one, reception, clock) for one in settings.propeller]
        doors: list[RequestDoor] = [*self._pyapns, *self._propeller]
        self._stations = [Station(door, clock, random_bits, self._sessions, memory) for door in doors]
        self._places: Sequence[AddressSettings] = [*settings.request_addresses]
        self.listening: tuple[tuple[str, str, int], ...] = ()
        """What is spoken, host and port of every socket, once it listens."""

    @property
    def sessions(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    async def start(self, *, listens: bool) -> None:
        """Be ready for connections; with *listens*, listen for them. Raises ListenError: then nothing listens."""
        if not listens:
            return
        loop = asyncio.get_running_loop()
        listening: list[tuple[str, str, int]] = []
        for place, station, sockets in zip(self._places, self._stations, self._bind(self._places), strict=True):
            for one in sockets:
                listening.append((place.word, *one.getsockname()[:2]))
                protocol = partial(RequestConnection, station, loop)
                self._servers.append(await loop.create_server(protocol, sock=one, backlog=limits.BACKLOG))
        self.listening = tuple(listening)

    def reload(self, settings: Settings) -> None:
        """Other settings hold, of the same addresses."""
        for pyapns, one in zip(self._pyapns, settings.pyapns, strict=False):
            pyapns.reload(one, settings.max_deliveries_per_message)
        for propeller, other in zip(self._propeller, settings.propeller, strict=True):
            propeller.reload(other)

    async def take(self, number: int, connected: socket.socket, admission: Admission) -> None:
        """Begin, if *admission* has it so, on a connection that came to address *number* of these. Raises OSError: the
        client has gone already."""
        loop = asyncio.get_running_loop()
        station = self._stations[number]._replace(sessions=self._sessions.through(admission))
        await loop.connect_accepted_socket(partial(RequestConnection, station, loop), connected)

    async def drain(self, limit: float) -> None:
        """Stop accepting; answer the requests that have come, within *limit* seconds."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self._sessions.drain(limit, limits.LINGER, self._clock)
