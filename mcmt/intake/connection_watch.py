"""What those who watch a domain are told of a connection that is that domain's alone (mcmt/wire/trace.py)."""

from __future__ import annotations

from mcmt.wire.trace import Trace, Tracing


class ConnectionWatch:
    """One connection, once any domain is watched."""

    def __init__(self, tracing: Tracing, domain: str, peer: str, protocol: str, summary: str) -> None:
        """*summary*: what whoever begins to watch is told first, who is at the other end."""
        self._tracing = tracing
        self._domain = domain
        self._peer = peer
        self._protocol = protocol
        self._summary = summary
        self._trace: Trace | None = None

    @property
    def trace(self) -> Trace | None:
        """Where to tell it; None: nobody watches this domain."""
        if self._trace is None or self._trace.over:
            self._trace = self._tracing.trace(self._domain, self._peer, self._protocol)
            if self._trace is not None:
                self._trace.tell("event", "session", self._summary)
        return self._trace

    def lost(self) -> None:
        """The connection has ended."""
        if self._trace is not None and not self._trace.over:
            self._trace.tell("event", "closed")
