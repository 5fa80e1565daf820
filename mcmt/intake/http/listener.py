"""The addresses of ``http_listener.listen``, on the running event loop.

Rules: as those of the SMTP listener (mcmt/intake/listener.py), whose limits, memory and way to the spool it shares.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiohttp import web

from mcmt.clock import Clock
from mcmt.config.settings import HttpAddressSettings, Settings
from mcmt.errors import ListenError
from mcmt.intake import limits
from mcmt.intake.door import Admission, Sessions
from mcmt.intake.http.acceptance import Acceptance
from mcmt.intake.http.api import Api
from mcmt.intake.http.connection import HttpConnection, HttpDoor
from mcmt.intake.http.diagnostics import Diagnostics
from mcmt.intake.http.tokens import Tokens
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.sockets import Bind, bind_all
from mcmt.intake.tls import CertificateFiles, reason_of
from mcmt.spool.standing import Tracker

log = logging.getLogger(__name__)

_KEEPALIVE = 366 * 86400.0
"""Seconds that aiohttp keeps a connection: the deadline is HttpConnection's, whose limit a reload may change."""


class _Tls:
    """Of one address: the certificate is looked up at each handshake."""

    def __init__(self, settings: HttpAddressSettings, files: CertificateFiles) -> None:
        self.files = files
        # A context of its own: of the one in use it would hold the other's callback too.
        self.context = _load_certificate(settings).context()
        self.context.sni_callback = self._renew

    def _renew(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self.files.context()


class _Place(NamedTuple):
    """One address."""

    door: HttpDoor
    api: Api
    tls: _Tls | None

    @property
    def context(self) -> ssl.SSLContext | None:
        return None if self.tls is None else self.tls.context


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
        self._tokens = Tokens({})
        self._places: list[_Place] = []
        self.listening: tuple[tuple[str, str, int], ...] = ()
        """What is spoken, host and port of every socket, once it listens."""

    @property
    def sessions(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    async def start(self, *, listens: bool) -> None:
        """Be ready for connections; with *listens*, listen for them. Raises ListenError: then nothing listens."""
        loop = asyncio.get_running_loop()
        self._tokens.reload(self._settings.http.tokens)
        for settings, files in zip(self._settings.http.listen, self.prepare(self._settings), strict=True):
            tls = None if files is None else _Tls(settings, files)
            connections: dict[Any, HttpConnection] = {}
            api = Api(settings, self._tokens, self._acceptance, self._memory, self._clock, connections)
            runner = web.AppRunner(
                api.application(),
                handle_signals=False,
                access_log=None,
                logger=Diagnostics(log, self._clock),
                keepalive_timeout=_KEEPALIVE,
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
            self._places.append(_Place(door, api, tls))
        if not listens:
            return
        addresses = self._settings.addresses[-len(self._places) :]
        listening: list[tuple[str, str, int]] = []
        for number, (address, sockets) in enumerate(zip(addresses, self._bind(addresses), strict=True)):
            context = self._places[number].context
            for one in sockets:
                listening.append((address.word, *one.getsockname()[:2]))
                listener = await loop.create_server(
                    lambda number=number: HttpConnection(self._places[number].door),
                    sock=one,
                    backlog=limits.BACKLOG,
                    ssl=context,
                    ssl_handshake_timeout=limits.TLS_HANDSHAKE if context else None,
                )
                self._servers.append(listener)
        self.listening = tuple(listening)

    def prepare(self, settings: Settings) -> list[CertificateFiles | None]:
        """The certificates that *settings* name. Raises ListenError; nothing changes yet."""
        return [None if one.tls_certificate is None else _load_certificate(one) for one in settings.http.listen]

    def reload(self, settings: Settings, certificates: Sequence[CertificateFiles | None]) -> None:
        """Other settings hold, of the same addresses: tokens and sizes for the next request, on connections that are
        open too; certificates at the next handshake; how long a client may be silent, for who connects next."""
        self._settings = settings
        self._tokens.reload(settings.http.tokens)
        for number, (one, files) in enumerate(zip(settings.http.listen, certificates, strict=True)):
            place = self._places[number]
            place.api.reload(one)
            if place.tls is not None and files is not None:
                place.tls.files = files
            self._places[number] = place._replace(door=place.door._replace(settings=one))

    async def take(self, number: int, connected: socket.socket, admission: Admission) -> None:
        """Begin, if *admission* has it so, on a connection that came to address *number*. Raises OSError: the client
        has gone already, or there is no TLS with it."""
        place = self._places[number]
        context = place.context
        door = place.door._replace(sessions=self._sessions.through(admission))
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


def _load_certificate(settings: HttpAddressSettings) -> CertificateFiles:
    assert settings.tls_certificate is not None  # noqa: S101 - who calls has seen it
    try:
        return CertificateFiles(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ListenError(f"{settings.tls_certificate} cannot be used: {reason_of(error)}; see mcmt check") from error
