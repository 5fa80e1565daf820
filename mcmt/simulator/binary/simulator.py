"""Both ports of the simulated binary gateway, and what it remembers."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

from mcmt.clock import Clock, SystemClock
from mcmt.simulator.binary.connection import Connection, Gateway
from mcmt.simulator.binary.feedback import FeedbackConnection, GoneList
from mcmt.simulator.credentials import Credentials
from mcmt.simulator.received import Ledger, Received
from mcmt.simulator.rules import Rule, Rulebook

_CLOSE_TIMEOUT = 1.0
_HANDSHAKE_TIMEOUT = 10.0

Address = tuple[str | None, int]
"""Host and port; None: every address; port 0: chosen by the system."""


class BinarySimulator:
    """A gateway and its feedback service. Everything is keyword-only; only ``tls`` has no default.

    :param tls: certificates from make_credentials; clients need the client's.
    :param listen: where the gateway listens, see ``port``.
    :param feedback: where the feedback service listens, see ``feedback_port``.
    :param rules, any_token_length, reserved_tokens, history, on_received: as of ApnsSimulator.
    """

    def __init__(
        self,
        *,
        tls: Credentials,
        listen: Address = ("127.0.0.1", 0),
        feedback: Address = ("127.0.0.1", 0),
        rules: Sequence[Rule] = (),
        any_token_length: bool = False,
        reserved_tokens: bool = True,
        history: int = 10_000,
        max_connections: int = 1024,
        on_received: Callable[[Received], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._tls = tls
        self._addresses = (listen, feedback)
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._readers: set[FeedbackConnection] = set()
        self._ledger = Ledger(history, on_received)
        self.gone = GoneList()
        """What the feedback service has to tell."""
        self._gateway = Gateway(
            Rulebook(rules, reserved_tokens),
            self._ledger,
            self.gone,
            clock or SystemClock(),
            tls.topics[0],
            any_token_length,
            max_connections,
        )

    async def start(self) -> None:
        """Listen. Raises OSError when an address cannot be had, ConfigError when the credentials cannot be used."""
        context = self._tls.server_context()
        context.verify_mode = ssl.CERT_REQUIRED
        loop = asyncio.get_running_loop()
        protocols: tuple[Callable[[], asyncio.Protocol], ...] = (
            partial(Connection, self._gateway, self._connections),
            partial(FeedbackConnection, self.gone, self._readers),
        )
        try:
            for protocol, (host, port) in zip(protocols, self._addresses, strict=True):
                self._servers.append(
                    await loop.create_server(
                        protocol, host, port, ssl=context, ssl_handshake_timeout=_HANDSHAKE_TIMEOUT, backlog=1024
                    )
                )
        except OSError:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Tell every client which was the last notification, close, and stop listening. Harmless when repeated."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.shut()
        if connections:
            await asyncio.wait([connection.closed for connection in connections], timeout=_CLOSE_TIMEOUT)
        for connection in list(self._connections):
            connection.abort()
        for reader in list(self._readers):
            reader.abort()
        for server in servers:
            await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def port(self) -> int:
        """The port of the gateway."""
        return int(self._servers[0].sockets[0].getsockname()[1])

    @property
    def feedback_port(self) -> int:
        """The port of the feedback service."""
        return int(self._servers[1].sockets[0].getsockname()[1])

    @property
    def received(self) -> deque[Received]:
        """The last notifications that were decided on, oldest first; not those discarded behind an error."""
        return self._ledger.received

    @property
    def total(self) -> int:
        """How many were decided on since the start."""
        return self._ledger.total

    @property
    def counts(self) -> Counter[tuple[int, str]]:
        """How many got each status: 200 taken, 410 taken and gone, else that of the error packet; 0 a fault."""
        return self._ledger.counts

    @property
    def violations(self) -> list[str]:
        """What was no notification."""
        return self._ledger.violations

    @property
    def connections_peak(self) -> int:
        """The most connections at one time."""
        return self._ledger.connections_peak

    @property
    def connections_total(self) -> int:
        """Connections since the start."""
        return self._ledger.connections_total

    async def wait_for(self, total: int) -> None:
        """Return once *total* notifications arrived whole since the start."""
        await self._ledger.wait_for(total)
