"""The addresses of ``http_listener.listen``, on the running event loop.

Rules: as those of the SMTP listener (mcmt/intake/listener.py), whose limits, memory and way to the spool it shares.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import web

from mcmt.clock import Clock
from mcmt.config.settings import HttpAddressSettings, Settings
from mcmt.errors import ListenError
from mcmt.intake import limits
from mcmt.intake.door import Admission, Sessions
from mcmt.intake.http.acceptance import Acceptance
from mcmt.intake.http.api import Api
from mcmt.intake.http.connection import HttpConnection, HttpDoor
from mcmt.intake.http.tokens import Tokens
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.sockets import Bind, bind_all
from mcmt.intake.tls import CertificateFiles, reason_of
from mcmt.spool.standing import Tracker

log = logging.getLogger(__name__)


class HttpListener:
    """All addresses and their connections."""

    def __init__(
        self,
        settings: Settings,
        reception: Reception,
        memory: IntakeMemory,
        admission: Admission,
        clock: Clock,
        random_bits: Callable[[int], int],
        tracker: Tracker,
        bind: Bind = bind_all,
    ) -> None:
        self._bind = bind
        self._settings = settings
        self._acceptance = Acceptance(reception, tracker)
        self._memory = memory
        self._clock = clock
        self._random_bits = random_bits
        self._sessions = Sessions(admission)
        self._servers: list[asyncio.Server] = []
        self._runners: list[Any] = []
        self._doors: list[tuple[HttpDoor, ssl.SSLContext | None]] = []
        self.listening: tuple[tuple[str, str, int], ...] = ()
        """What is spoken, host and port of every socket, once it listens."""

    @property
    def sessions(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    async def start(self, *, listens: bool) -> None:
        """Be ready for connections; with *listens*, listen for them. Raises ListenError: then nothing listens."""
        loop = asyncio.get_running_loop()
        tokens = Tokens(self._settings.http.tokens)
        for settings in self._settings.http.listen:
            context = _tls_context(settings)
            connections: dict[Any, HttpConnection] = {}
            api = Api(settings, tokens, self._acceptance, self._memory, self._clock, connections)
            runner = web.AppRunner(
                api.application(),
                handle_signals=False,
                access_log=None,
                logger=log,
                keepalive_timeout=settings.idle_timeout,
                max_line_size=limits.HTTP_LINE,
                max_field_size=limits.HTTP_LINE,
                lingering_time=limits.LINGER,
                # What is packed small would be counted small in the memory.
                auto_decompress=False,
            )
            await runner.setup()
            self._runners.append(runner)
            server: Any = runner.server
            door = HttpDoor(settings, self._clock, self._random_bits, self._sessions, server, connections)
            self._doors.append((door, context))
        if not listens:
            return
        places = self._settings.addresses[-len(self._doors) :]
        listening: list[tuple[str, str, int]] = []
        for place, (door, context), sockets in zip(places, self._doors, self._bind(places), strict=True):
            for one in sockets:
                listening.append((place.word, *one.getsockname()[:2]))
                listener = await loop.create_server(
                    lambda door=door: HttpConnection(door),
                    sock=one,
                    backlog=limits.BACKLOG,
                    ssl=context,
                    ssl_handshake_timeout=limits.TLS_HANDSHAKE if context else None,
                )
                self._servers.append(listener)
        self.listening = tuple(listening)

    async def take(self, number: int, connected: socket.socket, admission: Admission) -> None:
        """Begin, if *admission* has it so, on a connection that came to address *number*. Raises OSError: the client
        has gone already, or there is no TLS with it."""
        door, context = self._doors[number]
        door = door._replace(sessions=self._sessions.through(admission))
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: HttpConnection(door),
            connected,
            ssl=context,
            ssl_handshake_timeout=limits.TLS_HANDSHAKE if context else None,
        )

    async def drain(self, limit: float) -> None:
        """Stop accepting; answer the requests that have come, within *limit* seconds."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self._sessions.drain(limit, limits.LINGER, self._clock)
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()


def _tls_context(settings: HttpAddressSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    try:
        files = CertificateFiles(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ListenError(f"{settings.tls_certificate} cannot be used: {reason_of(error)}; see mcmt check") from error

    def renew(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = files.context()

    # A context of its own: of the one in use it would hold the other's callback too.
    context = CertificateFiles(settings.tls_certificate, settings.tls_key).context()
    context.sni_callback = renew
    return context
