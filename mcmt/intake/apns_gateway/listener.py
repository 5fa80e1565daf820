"""The addresses of ``apns_gateway.listen``, and the feedback services beside them, on the running event loop.

Rules: as those of the SMTP listener (mcmt/intake/listener.py), whose limits, memory and way to the spool it shares.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial

from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.errors import ListenError
from mcmt.intake import limits
from mcmt.intake.apns_gateway.burst import NOTIFICATIONS
from mcmt.intake.apns_gateway.connection import Gateway, GatewayConnection
from mcmt.intake.apns_gateway.feedback import FeedbackSession
from mcmt.intake.apns_gateway.session import GatewaySession
from mcmt.intake.door import Admission, Sessions
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.sockets import Bind, bind_all
from mcmt.intake.tls import CertificateFiles, reason_of
from mcmt.spool.port import GoneTokens


class ApnsGateways:
    """All gateways and their connections."""

    def __init__(
        self,
        settings: Settings,
        reception: Reception,
        memory: IntakeMemory,
        admission: Admission,
        clock: Clock,
        random_bits: Callable[[int], int],
        gone_tokens: GoneTokens | None,
        bind: Bind = bind_all,
    ) -> None:
        self._settings = settings
        self._reception = reception
        self._memory = memory
        self._clock = clock
        self._random_bits = random_bits
        self._gone_tokens = gone_tokens
        self._bind = bind
        self._sessions = Sessions(admission)
        self._servers: list[asyncio.Server] = []
        self._gateways: list[Gateway] = []
        self._places: list[tuple[type[GatewaySession | FeedbackSession], int]] = []
        """What is spoken on each address, and of which gateway it is."""
        self.listening: tuple[tuple[str, str, int], ...] = ()
        """What is spoken, host and port of every socket, once it listens."""

    @property
    def sessions(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    async def start(self, *, listens: bool) -> None:
        """Be ready for connections; with *listens*, listen for them. Raises ListenError: then nothing listens."""
        loop = asyncio.get_running_loop()
        self._gateways = self.prepare(self._settings)
        self._places += [(GatewaySession, each.number) for each in self._gateways]
        self._places += [(FeedbackSession, each.number) for each in self._gateways if each.settings.feedback]
        if not listens:
            return
        first = len(self._settings.listen)
        places = self._settings.addresses[first : first + len(self._places)]
        listening: list[tuple[str, str, int]] = []
        for number, (place, sockets) in enumerate(zip(places, self._bind(places), strict=True)):
            for one_socket in sockets:
                listening.append((place.word, *one_socket.getsockname()[:2]))
                protocol = partial(self._begin, number, loop)
                self._servers.append(await loop.create_server(protocol, sock=one_socket, backlog=limits.BACKLOG))
        self.listening = tuple(listening)

    def _begin(self, number: int, loop: asyncio.AbstractEventLoop) -> GatewayConnection:
        session, gateway = self._places[number]
        return session(self._gateways[gateway], loop)

    def prepare(self, settings: Settings) -> list[Gateway]:
        """Gateways by *settings*. Raises ListenError; nothing changes yet."""
        most = min(NOTIFICATIONS, settings.max_deliveries_per_message)
        gateways: list[Gateway] = []
        for number, one in enumerate(settings.gateways):
            try:
                certificate = CertificateFiles(one.tls_certificate, one.tls_key, one.client_ca)
            except (OSError, ssl.SSLError) as error:
                reason = f"{one.tls_certificate} or {one.client_ca} cannot be used: {reason_of(error)}; see mcmt check"
                raise ListenError(reason) from error
            gateways.append(
                Gateway(
                    one,
                    self._reception,
                    self._clock,
                    self._random_bits,
                    self._sessions,
                    self._memory,
                    certificate,
                    self._gone_tokens,
                    most,
                    number,
                )
            )
        return gateways

    def reload(self, gateways: list[Gateway]) -> None:
        """Go on by these, of the same addresses; open connections too (GatewayConnection)."""
        self._gateways = gateways
        for session in self._sessions:
            if isinstance(session, GatewayConnection):
                session.reload(gateways)

    async def take(self, number: int, connected: socket.socket, admission: Admission) -> None:
        """Begin, if *admission* has it so, on a connection that came to gateway *number*; those of the feedback
        services follow the gateways'. Raises OSError: the client has gone already."""
        loop = asyncio.get_running_loop()
        session, place = self._places[number]
        gateway = self._gateways[place]._replace(sessions=self._sessions.through(admission))
        await loop.connect_accepted_socket(partial(session, gateway, loop), connected)

    async def drain(self, limit: float) -> None:
        """Stop accepting; keep what was read, tell every client what was the last of it, within *limit* seconds."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self._sessions.drain(limit, limits.GATEWAY_LINGER, self._clock)
