"""What those who watch a domain are told of a client's connection to its gateway (mcmt/wire/trace.py)."""

from __future__ import annotations

from collections.abc import Sequence

from mcmt.wire.apns_binary import Fault, Notification
from mcmt.wire.trace import Trace, Tracing

PROTOCOL = "binary"
"""As the trace of our own connections calls it."""


class ConnectionWatch:
    """One connection, while any domain is watched."""

    def __init__(self, tracing: Tracing, domain: str, peer: str, summary: str) -> None:
        """*summary*: who the client is."""
        self._tracing = tracing
        self._domain = domain
        self._peer = peer
        self._summary = summary
        self._trace: Trace | None = None

    def received(self, notifications: Sequence[Notification], fault: Fault | None) -> None:
        """These have come; *fault*: what stands behind them cannot be read."""
        trace = self._current()
        if trace is None:
            return
        for number, one in enumerate(notifications):
            if not trace.has_room:
                trace.left_out(len(notifications) - number)
                return
            given = (("identifier", one.identifier), ("expiration", one.expiration), ("priority", one.priority))
            fields = [(name, str(value)) for name, value in given if value is not None]
            fields.append(("token", one.token.hex()))
            trace.tell("received", f"command {one.command}", fields=fields, octets=len(one.payload), body=one.payload)
        if fault is not None:
            trace.tell("received", "what cannot be read", fault.text)

    def sent(self, what: str, text: str = "", octets: int = 0) -> None:
        """The client is told."""
        if (trace := self._current()) is not None:
            trace.tell("sent", what, text, octets=octets)

    def lost(self) -> None:
        """The connection has ended."""
        if self._trace is not None and not self._trace.over:
            self._trace.tell("event", "closed")

    def _current(self) -> Trace | None:
        if self._trace is None or self._trace.over:
            self._trace = self._tracing.trace(self._domain, self._peer, PROTOCOL)
            if self._trace is not None:
                self._trace.tell("event", "session", self._summary)
        return self._trace
