"""Every door of one process: the SMTP listener and the gateways, with one account of connections and one memory.

A connection is known by the number of its address in ``Settings.addresses``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence

from mcmt.channel.port import Channel
from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.errors import MessageError
from mcmt.intake.apns_gateway import ApnsGateways
from mcmt.intake.door import Admission
from mcmt.intake.failures import Login
from mcmt.intake.listener import SmtpListener
from mcmt.intake.sockets import Bind, bind_all
from mcmt.spool.port import GoneTokens, Keeper


class Doors:
    """All of them."""

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        spool: Keeper,
        clock: Clock,
        random_bits: Callable[[int], int],
        admission: Admission | None = None,
        tell: Callable[[Login], None] | None = None,
        gone_tokens: GoneTokens | None = None,
        bind: Bind = bind_all,
    ) -> None:
        """*admission*, *tell* and *bind* as of SmtpListener; *gone_tokens*: what the feedback services tell, and
        what nothing is sent to."""
        self._settings = settings
        self._listens = admission is None
        self.smtp = SmtpListener(settings, channels, spool, clock, random_bits, admission, tell, gone_tokens, bind)
        self.gateways = ApnsGateways(
            settings, self.smtp.reception, self.smtp.memory, self.smtp.admission, clock, random_bits, gone_tokens, bind
        )

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where SMTP is listened for."""
        return self.smtp.addresses

    @property
    def listening(self) -> Sequence[tuple[str, str, int]]:
        """What is spoken on which host and port."""
        return [*[("SMTP", host, port) for host, port in self.addresses], *self.gateways.listening]

    @property
    def sessions(self) -> int:
        """How many clients are connected."""
        return self.smtp.sessions + self.gateways.sessions

    async def start(self) -> None:
        """Begin to accept connections. Raises ListenError, UsersError."""
        await self.smtp.start()
        try:
            await self.gateways.start(listens=self._listens)
        except BaseException:
            await self.drain(0.0)
            raise

    def heard(self, login: Login) -> None:
        """What another process with the same doors tells."""
        self.smtp.heard(login)

    async def take(self, number: int, connected: socket.socket, refusal: MessageError | None) -> None:
        """Begin a session on a connection that came to address *number*.

        *refusal*: what the client is told instead. Raises OSError: the client has gone already.
        """
        smtp = len(self._settings.listen)
        if number < smtp:
            await self.smtp.take(number, connected, refusal)
        else:
            await self.gateways.take(number - smtp, connected, refusal)

    async def drain(self, limit: float) -> None:
        """Stop accepting; let what is being received come to its end, for up to *limit* seconds."""
        await asyncio.gather(self.smtp.drain_sessions(limit), self.gateways.drain(limit))
        await self.smtp.aclose()
