"""One client of the simulated gateway: notifications are taken in silence until one is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Final, NamedTuple, cast

from mcmt.clock import Clock, Timer
from mcmt.simulator.binary.feedback import GoneList
from mcmt.simulator.binary.frames import Frame, UnreadableError, take
from mcmt.simulator.binary.verdict import PROTOCOL_ERROR, SHUTDOWN, STATUSES, Verdict, judge, verdict_of
from mcmt.simulator.received import Ledger, Received
from mcmt.simulator.rules import Rulebook

LINGER: Final = 5.0
"""Seconds that a client has to close after an error packet: closing first would destroy what it has yet to read."""
_ERROR: Final = 8


class Gateway(NamedTuple):
    """What all connections of one simulator have in common."""

    rules: Rulebook
    ledger: Ledger
    gone: GoneList
    clock: Clock
    topic: str
    any_token_length: bool
    max_connections: int


class Connection(asyncio.Protocol):
    """From the TLS handshake to the end."""

    def __init__(self, gateway: Gateway, connections: set[Connection]) -> None:
        self._gateway = gateway
        self._connections = connections
        self._transport: asyncio.Transport
        self._number = 0
        self._buffer = bytearray()
        self._last: int | None = None
        """Identifier of the last notification that was taken."""
        self._count = 0
        self._held = False
        """A rule's delay, or its silence, holds back what comes."""
        self._ended = False
        self._lost = False
        self._timer: Timer | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._number = self._gateway.ledger.opened()
        action = self._gateway.rules.for_connection(self._number)
        if len(self._connections) > self._gateway.max_connections or (action is not None and action.close):
            self._transport.abort()
        elif action is not None and action.goaway is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """The connection is gone. What a rule's delay holds back has come all the same."""
        self._lost = True
        if self._ended and self._timer is not None:
            self._timer.cancel()
        self._connections.discard(self)
        self._gateway.ledger.connections_open -= 1
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Notifications, however they are split. After an error packet they are thrown away."""
        if not self._ended:
            self._buffer += data
            self._work_off()

    def shut(self) -> None:
        """The simulator ends: say which was the last."""
        if self._ended or self._last is None:
            self._transport.close()
        else:
            self._tell(SHUTDOWN, self._last)
            self._transport.close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    def _work_off(self) -> None:
        while not self._ended and not self._held:
            try:
                frame = take(self._buffer)
            except UnreadableError as error:
                self._gateway.ledger.violation(f"connection {self._number}: {error}")
                self._tell(PROTOCOL_ERROR, error.identifier)
                return
            if frame is None:
                return
            self._count += 1
            self._decide(frame)

    def _decide(self, frame: Frame) -> None:
        gateway = self._gateway
        gateway.ledger.arrive()
        status = judge(frame, gateway.any_token_length)
        if status:
            self._act(frame, Verdict(status))
            return
        action = gateway.rules.for_request(frame.token.hex(), gateway.topic, self._number)
        verdict = verdict_of(action)
        if action is not None and action.delay:
            self._held = True
            self._timer = gateway.clock.call_later(action.delay, lambda: self._late(frame, verdict))
        else:
            self._act(frame, verdict)

    def _late(self, frame: Frame, verdict: Verdict) -> None:
        self._held = False
        self._act(frame, verdict)
        self._work_off()

    def _act(self, frame: Frame, verdict: Verdict) -> None:
        if verdict.drop:
            self._record(frame, 0, "connection dropped")
            self._ended = True
            self._transport.abort()
        elif verdict.hang:
            self._record(frame, 0, "no answer")
            self._held = True
            self._transport.pause_reading()
        elif verdict.status:
            self._record(frame, verdict.status, STATUSES[verdict.status])
            named = self._last if verdict.status == SHUTDOWN else frame.identifier
            self._tell(verdict.status, named)
        else:
            self._last = frame.identifier
            if verdict.gone:
                now = self._gateway.clock.time()
                since = int(now if verdict.timestamp is None else verdict.timestamp / 1000)
                self._gateway.gone.add(since, frame.token)
            self._record(frame, 410 if verdict.gone else 200, verdict.reason)

    def _tell(self, status: int, identifier: int | None) -> None:
        """The error packet, where there is an identifier for it, and the end of our side."""
        self._ended = True
        if identifier is None or self._lost:
            self._transport.close()
            return
        self._transport.write(bytes((_ERROR, status)) + identifier.to_bytes(4, "big"))
        self._timer = self._gateway.clock.call_later(LINGER, self._transport.close)
        if not self._transport.get_write_buffer_size():
            # The loops' TLS has no half-closed end; TCP has, by a descriptor of our own.
            descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
            with socket.socket(fileno=descriptor) as plain, contextlib.suppress(OSError):
                plain.shutdown(socket.SHUT_WR)

    def _record(self, frame: Frame, status: int, reason: str) -> None:
        headers = {"apns-topic": self._gateway.topic}
        if frame.expiration is not None:
            headers["apns-expiration"] = str(frame.expiration)
        if frame.priority is not None:
            headers["apns-priority"] = str(frame.priority)
        identifier = "" if frame.identifier is None else str(frame.identifier)
        now, token = self._gateway.clock.time(), frame.token.hex()
        self._gateway.ledger.add(
            Received(token, identifier, headers, frame.payload, status, reason, self._number, self._count, now)
        )
