"""The simulator of Apple's push gateway: a TLS server for tests and for work without an Apple account.

    async with ApnsSimulator(tls=make_credentials(folder)) as simulator:
        ...                                # push to 127.0.0.1, simulator.port
        await simulator.wait_for(1)
        assert simulator.received[0].status == 200

It is as strict as Apple (judge.py, docs/simulator.md), and sick on request (rules.py, reserved.py). It
stands on h2 and asyncio's TLS and shares no protocol code with mcmt's own channel, so that the two can
disagree.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Self

from mcmt.clock import Clock, SystemClock
from mcmt.simulator.connection import Connection
from mcmt.simulator.credentials import Credentials
from mcmt.simulator.exchange import Gateway
from mcmt.simulator.judge import Judge
from mcmt.simulator.provider_token import TokenVerifier
from mcmt.simulator.received import Ledger, Received
from mcmt.simulator.rules import Rule, Rulebook

__all__ = ["ApnsSimulator", "Received"]

_CLOSE_TIMEOUT = 1.0
_HANDSHAKE_TIMEOUT = 10.0


def _new_id() -> str:
    return str(uuid.uuid4())


class ApnsSimulator:
    """One listening gateway. Everything is keyword-only; only ``tls`` has no default.

    :param tls: certificates, keys, team and topics, from make_credentials.
    :param host: address to listen on; None: every address.
    :param port: 0: chosen by the system, see ``port``.
    :param rules: asked in order about every good request.
    :param max_streams: MAX_CONCURRENT_STREAMS once a good provider token was seen (before: 1).
    :param any_token_length: take device tokens of any number of hex digits.
    :param reserved_tokens: let ``dead...`` and ``fa11...`` tokens provoke faults.
    :param goaway_on_violation: a stream over the limit ends the connection; else it is only refused.
    :param history: how many pushes ``received`` holds; the oldest go first.
    :param on_received: called with each push as it is answered; must be quick and must not raise.
    """

    def __init__(
        self,
        *,
        tls: Credentials,
        host: str | None = "127.0.0.1",
        port: int = 0,
        rules: Sequence[Rule] = (),
        max_streams: int = 1000,
        any_token_length: bool = False,
        reserved_tokens: bool = True,
        goaway_on_violation: bool = False,
        history: int = 10_000,
        max_connections: int = 1024,
        on_received: Callable[[Received], None] | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        clock = clock or SystemClock()
        self._tls = tls
        self._host = host
        self._asked_port = port
        self._server: asyncio.Server | None = None
        self._ledger = Ledger(history, on_received)
        verifier = TokenVerifier(tls.team_id, tls.public_keys())
        self._connections: set[Connection] = set()
        self._gateway = Gateway(
            judge=Judge(verifier, frozenset(tls.topics), any_token_length, clock),
            rules=Rulebook(rules, reserved_tokens),
            ledger=self._ledger,
            clock=clock,
            new_id=new_id,
            max_streams=max_streams,
            max_connections=max_connections,
            goaway_on_violation=goaway_on_violation,
        )

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had, ConfigError when the credentials cannot be used."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._gateway, self._connections),
            self._host,
            self._asked_port,
            ssl=self._tls.server_context(),
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT,
            backlog=1024,
        )

    async def aclose(self) -> None:
        """Say GOAWAY to every client, close, and stop listening. Harmless when repeated."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.shut()
        if connections:
            await asyncio.wait([connection.closed for connection in connections], timeout=_CLOSE_TIMEOUT)
            for connection in connections:
                if not connection.closed.done():
                    connection.abort()
            await asyncio.wait([connection.closed for connection in connections], timeout=_CLOSE_TIMEOUT)
        if server is not None:
            await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def port(self) -> int:
        """The port it listens on. Raises RuntimeError before start."""
        if self._server is None:
            raise RuntimeError("the simulator is not listening: await start() first")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def received(self) -> deque[Received]:
        """The last pushes that were decided on, oldest first."""
        return self._ledger.received

    @property
    def total(self) -> int:
        """How many pushes were decided on since the start."""
        return self._ledger.total

    @property
    def counts(self) -> Counter[tuple[int, str]]:
        """How many pushes got each (status, reason); reason is empty with 200, status 0 with a fault."""
        return self._ledger.counts

    @property
    def violations(self) -> list[str]:
        """What clients did that Apple would punish; the first 1,000."""
        return self._ledger.violations

    @property
    def connections_open(self) -> int:
        """Connections now."""
        return self._ledger.connections_open

    @property
    def connections_peak(self) -> int:
        """The most connections at one time."""
        return self._ledger.connections_peak

    @property
    def connections_total(self) -> int:
        """Connections since the start."""
        return self._ledger.connections_total

    @property
    def streams_peak(self) -> int:
        """The most streams open at one time on one connection."""
        return self._ledger.streams_peak

    async def wait_for(self, total: int) -> None:
        """Return once *total* pushes arrived whole since the start; a rule's delay may still hold some back."""
        await self._ledger.wait_for(total)
