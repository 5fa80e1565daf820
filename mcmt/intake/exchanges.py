"""What those who watch a domain are told of a request and its answer, at the doors that speak in such pairs
(mcmt/wire/trace.py).

Both are told together, when the answer is made: only then it is known which domain they are about. Rules: a request of
which that is never known is not shown; a body is given with its secrets left out, by the door that knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mcmt.wire.trace import MAX_BODY, Trace, Tracing, Way


class Said(NamedTuple):
    """A request, or an answer."""

    text: str
    """Its first line."""
    fields: Sequence[tuple[str, str]] = ()
    octets: int = 0
    """How long the body is."""
    body: bytes = b""
    """What of it may be shown; its front suffices."""
    public: bool = False
    """There is no payload in it: it is always shown."""


class Exchanges:
    """Those of one connection."""

    def __init__(self, tracing: Tracing, peer: str, protocol: str) -> None:
        """*protocol*: the door's word."""
        self._tracing = tracing
        self._peer = peer
        self._protocol = protocol
        self._traces: dict[str, Trace] = {}

    def tell(self, domains: Iterable[str], asked: Said, answered: Said | None) -> None:
        """Tell whoever watches one of *domains*. *answered* None: there is no answer to such a one."""
        for domain in domains:
            if (trace := self._trace(domain)) is not None:
                _tell(trace, "received", "request", asked)
                if answered is not None:
                    _tell(trace, "sent", "answer", answered)

    def lost(self) -> None:
        """The connection has ended."""
        for trace in self._traces.values():
            if not trace.over:
                trace.tell("event", "closed")
        self._traces.clear()

    def _trace(self, domain: str) -> Trace | None:
        trace = self._traces.get(domain)
        if trace is None or trace.over:
            self._traces.pop(domain, None)
            trace = self._tracing.trace(domain, self._peer, self._protocol)
            if trace is not None:
                self._traces[domain] = trace
        return trace


def _tell(trace: Trace, way: Way, what: str, said: Said) -> None:
    body = said.body[:MAX_BODY]
    trace.tell(way, what, said.text, fields=said.fields, octets=said.octets, body=body, public=said.public)
