"""What a connection over HTTP/2 says, for whoever watches it (mcmt/wire/trace.py).

Rule: called only while ``report.trace`` is there, and then with every byte.
"""

from __future__ import annotations

import ssl

from mcmt.channel.port import Report
from mcmt.wire.http2 import ClientConnection
from mcmt.wire.http2_trace import Http2Trace

from .transport import tls_in_words


class Shown:
    """One connection, to one watcher after another."""

    def __init__(self, report: Report, http2: ClientConnection) -> None:
        self._report = report
        self._http2 = http2
        self._trace: Http2Trace | None = None  # of whoever watched the last time

    def opened(self, address: str, tls: ssl.SSLObject) -> None:
        """TLS is up."""
        if (trace := self._report.trace) is not None:
            trace.peer = address
            trace.tell("event", "connected", tls_in_words(tls))

    def received(self, data: bytes) -> None:
        """This has come, and the codec has not had it yet."""
        if (shown := self._frames()) is not None:
            shown.received(data)

    def sent(self, data: bytes) -> None:
        """This is written now."""
        if (shown := self._frames()) is not None:
            shown.sent(data)

    def _frames(self) -> Http2Trace | None:
        trace = self._report.trace
        if trace is not None and (self._trace is None or self._trace.trace is not trace):
            self._trace = Http2Trace(trace, self._http2.unfinished)
        return self._trace
