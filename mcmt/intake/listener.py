"""The SMTP listener: every address of ``esmtp_listener.listen``, on the running event loop.

Rules: where another process listens, its connections are handed in (``take``); a stop lets a message that is being
received come to its end. It must not know the commands (smtp.py) nor what is kept (reception.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mcmt.channel.port import Channel
from mcmt.clock import Clock
from mcmt.config.settings import ListenSettings, Settings
from mcmt.errors import ListenError
from mcmt.intake import limits
from mcmt.intake.connection import make_template
from mcmt.intake.door import Admission, Door, SessionLimits, Sessions
from mcmt.intake.extensions import keywords
from mcmt.intake.failures import FailureBudget, Login
from mcmt.intake.logins import Logins, PasswordThread
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.reminder import Reminder
from mcmt.intake.security import AUTH
from mcmt.intake.smtp import SmtpSession, tell_extensions
from mcmt.intake.sockets import Bind, bind_all
from mcmt.intake.tls import CertificateFiles, reason_of
from mcmt.intake.users import UsersFile
from mcmt.spool.port import GoneTokens, Keeper
from mcmt.wire.trace import Tracing


class Prepared(NamedTuple):
    """Doors by other settings, ready to take the place of those that are open."""

    settings: Settings
    doors: list[Door]
    logins: dict[Path, Logins]


class SmtpListener:
    """All listening addresses and their sessions."""

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        spool: Keeper,
        clock: Clock,
        random_bits: Callable[[int], int],
        tell: Callable[[Login], None] | None = None,
        gone_tokens: GoneTokens | None = None,
        bind: Bind = bind_all,
        *,
        listens: bool = True,
        tracing: Tracing | None = None,
    ) -> None:
        """*tell*: the other processes with sessions of the same listener. *gone_tokens*: see Reception. *bind* gives
        the sockets of addresses. *listens*: not where another process does, and hands connections in (``take``).
        """
        self._bind = bind
        self._tracing = tracing or Tracing(clock)
        self._failures = FailureBudget(
            settings.intake.auth_failures_per_address, settings.intake.auth_failure_window, clock, tell
        )
        self._settings = settings
        self.reception = Reception(settings, channels, spool, clock, random_bits, gone_tokens, self._tracing)
        self._clock = clock
        self._random_bits = random_bits
        self._listens = listens
        self._doors: list[Door] = []
        self._logins: dict[Path, Logins] = {}
        self._secret = random_bits(256).to_bytes(32, "big")
        self._servers: list[asyncio.Server] = []
        self.admission = SessionLimits(settings.intake, clock)
        self._sessions = Sessions(self.admission)
        self.memory = IntakeMemory(settings.intake.max_intake_bytes // settings.workers)
        self._passwords = PasswordThread()
        self.addresses: tuple[tuple[str, int], ...] = ()
        """Host and port of every socket, once started."""

    @property
    def sessions(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    @property
    def held_bytes(self) -> int:
        """Of ``max_intake_bytes``: how many are held now."""
        return self.memory.held

    async def start(self) -> None:
        """Begin to accept connections. Raises ListenError, UsersError: then nothing listens."""
        # aiosmtpd writes a line of INFO a connection, with what clients sent in it.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        self.reload(self.prepare(self._settings))
        loop = asyncio.get_running_loop()
        listen = self._settings.listen
        bound = self._bind(self._settings.addresses[: len(listen)]) if self._listens else []
        addresses = []
        for number, sockets in enumerate(bound):
            for listening in sockets:
                addresses.append(listening.getsockname()[:2])
                server = await loop.create_server(
                    lambda number=number: SmtpSession(self._doors[number], loop),  # type: ignore[misc]
                    sock=listening,
                    backlog=limits.BACKLOG,
                )
                self._servers.append(server)
        self.addresses = tuple(addresses)

    def prepare(self, settings: Settings) -> Prepared:
        """Doors by *settings*, which have the same addresses. Raises ListenError, UsersError; nothing changes yet."""
        template = make_template(settings.hostname, asyncio.get_running_loop())
        logins = self._read_users(settings.listen)
        doors = [self._door(settings, listen, logins, template) for listen in settings.listen]
        return Prepared(settings, doors, logins)

    def reload(self, prepared: Prepared) -> None:
        """Whoever connects from now on comes through the new doors; sessions go on through those that they came by."""
        settings, self._doors, self._logins = prepared
        self._settings = settings
        intake = settings.intake
        self.admission.settings = intake
        self.memory.limit = intake.max_intake_bytes // settings.workers
        self._failures.reload(intake.auth_failures_per_address, intake.auth_failure_window)
        self.reception.reload(settings)

    def _door(
        self, settings: Settings, listen: ListenSettings, logins: Mapping[Path, Logins], template: Mapping[str, Any]
    ) -> Door:
        certificate = _load_certificate(listen)
        tell = partial(
            tell_extensions,
            settings.hostname,
            listen.max_message_size,
            *keywords(listen.discard_ehlo_keywords, listen.max_future_release),
        )
        return Door(
            settings.hostname,
            listen,
            settings.intake,
            self.reception,
            self._clock,
            self._random_bits,
            self._sessions,
            self.memory,
            certificate,
            None if listen.users_file is None else logins[listen.users_file],
            # RFC 3207 4.2: STARTTLS is not offered within TLS. RFC 4954 4: AUTH is, only there.
            tell(*(["STARTTLS"] if certificate else [])),
            tell(*([AUTH] if listen.users_file else [])),
            template,
            self._tracing,
            Reminder(self._clock),
        )

    def heard(self, login: Login) -> None:
        """What another process with sessions of the same listener tells."""
        self._failures.heard(login)

    async def take(self, number: int, connected: socket.socket, admission: Admission) -> None:
        """Begin a session, if *admission* has it so, on a connection that came to address *number* of
        ``settings.listen``. Raises OSError: the client has gone already."""
        door = self._doors[number]._replace(sessions=self._sessions.through(admission))
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: SmtpSession(door, loop), connected)

    async def drain(self, limit: float) -> None:
        """``drain_sessions``, and then there is nothing to be received any more."""
        await self.drain_sessions(limit)
        await self.aclose()

    async def drain_sessions(self, limit: float) -> None:
        """Stop accepting; let messages that are being received come to their end, for up to *limit* seconds."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self._sessions.drain(limit, limits.LINGER, self._clock)

    async def aclose(self) -> None:
        """Write what is known of refusals, and let go of threads. Every door is drained."""
        await self.reception.aclose()
        self._passwords.close()

    def _read_users(self, listens: Sequence[ListenSettings]) -> dict[Path, Logins]:
        return {
            file: self._logins.get(file) or Logins(UsersFile(file), self._failures, self._passwords, self._secret)
            for file in {listen.users_file for listen in listens}
            if file is not None
        }


def _load_certificate(listen: ListenSettings) -> CertificateFiles | None:
    if listen.tls_certificate is None:
        return None
    try:
        return CertificateFiles(listen.tls_certificate, listen.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ListenError(f"{listen.tls_certificate} cannot be used: {reason_of(error)}; see mcmt check") from error
