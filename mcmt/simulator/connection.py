"""One client's connection, as asyncio sees it: the handshake, bursts of octets, the end.

Requests are exchange.py's. Reading stops while the client does not read.
"""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec
from cryptography import x509
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError as H2ProtocolError

from mcmt.simulator.action import Action, Settings
from mcmt.simulator.exchange import Exchange, Gateway
from mcmt.simulator.judge import Identity
from mcmt.simulator.topic_extension import certificate_topics
from mcmt.simulator.wire import Transport, Wire

LINGER = 0.5
"""Seconds that a client has to close after a GOAWAY: closing first would destroy what it has yet to read."""


class Connection(asyncio.Protocol):
    """A client's connection, from the TLS handshake to its end."""

    def __init__(self, gateway: Gateway, connections: set[Connection]) -> None:
        self._gateway = gateway
        self._ledger = gateway.ledger
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: Transport
        self._number = 0
        self._wire: Wire | None = None
        self._exchange: Exchange | None = None
        """Both None before the handshake, and once nothing more is read or answered."""
        self._flush_due = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done."""
        self._transport = cast(Transport, transport)
        self._connections.add(self)
        self._number = self._ledger.opened()
        action = self._gateway.rules.for_connection(self._number)
        if len(self._connections) > self._gateway.max_connections:
            self._ledger.violation(f"connection {self._number}: more than {self._gateway.max_connections} connections")
            self._transport.abort()
        elif action is not None and action.close:
            self._transport.abort()
        else:
            self._begin(action or Action())

    def _begin(self, action: Action) -> None:
        certificate = self._transport.get_extra_info("ssl_object").getpeercert(True)
        identity = Identity(certificate and certificate_topics(x509.load_der_x509_certificate(certificate)))
        warm = identity.certificate_topics is not None
        settings = action.settings or Settings()
        max_streams = self._gateway.max_streams
        if settings.max_concurrent_streams is not None and not warm:
            # What stands in for the limit that the first good token brings.
            max_streams = settings.max_concurrent_streams
            settings = msgspec.structs.replace(settings, max_concurrent_streams=None)
        # Apple: one stream until a request with a good provider token was answered.
        self._wire = Wire(self._transport, max_streams if warm else 1, self._gateway.clock, self._flush_soon)
        if settings != Settings(restore_after=settings.restore_after):
            self._wire.apply(settings)
        self._exchange = Exchange(
            self._gateway, self._number, identity, self._wire, max_streams, self._flush_soon, self._drop
        )
        self._exchange.goaway = action.goaway
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """The connection is gone, and its requests with it."""
        self._deafen()
        if self._wire is not None:
            self._wire.lost()
        self._connections.discard(self)
        self._ledger.connections_open -= 1
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """The client does not read: nothing is read from it either."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """A burst of frames."""
        if self._exchange is None or self._wire is None:
            return
        try:
            events = self._wire.receive(data)
        except H2ProtocolError as error:
            self._ledger.violation(f"connection {self._number}: {type(error).__name__}: {error}")
            self._end()
            return
        for event in events:
            self._exchange.handle(event)
            if self._exchange is None:  # dropped
                return
        self._flush()

    def shut(self) -> None:
        """The simulator ends: say so and close."""
        if self._exchange is not None and self._wire is not None:
            self._wire.goaway(self._wire.highest_stream, ErrorCodes.NO_ERROR, b"")
            self._exchange.settle()
            self._deafen()
        self._transport.close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._exchange is None or self._transport.is_closing():
            return
        self._exchange.settle()
        if self._exchange is not None and self._exchange.done:
            self._end()

    def _end(self) -> None:
        """Close, once the client had time to read what was written."""
        if self._exchange is not None and self._wire is not None:
            self._exchange.settle()
            self._deafen()
            self._wire.close_after(LINGER)

    def _drop(self) -> None:
        self._deafen()
        self._transport.abort()

    def _deafen(self) -> None:
        """Read and answer nothing from now on."""
        if self._exchange is not None:
            self._exchange.abandon()
            self._exchange = None
