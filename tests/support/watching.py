"""Somebody who watches a domain, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from mcmt.clock import Clock
from mcmt.wire.trace import Line, Trace, Tracing, Watch
from tests.support.manual_clock import ManualClock


class Watcher:
    """Watches *domain* from now on."""

    def __init__(self, domain: str = "a.example", clock: Clock | None = None, *, bodies: bool = False) -> None:
        self.tracing = Tracing(clock or ManualClock())
        self.watch = Watch(1, domain, bodies)
        self.tracing.fetch(self.watch)

    def trace(self) -> Trace:
        """For one connection."""
        trace = self.tracing.trace(self.watch.domain)
        assert trace is not None
        return trace

    def lines(self) -> Sequence[Line]:
        """What was said since this was asked the last time."""
        return self.tracing.fetch(self.watch).lines

    def texts(self) -> list[str]:
        """The same, as ``sent PING ack``."""
        return [" ".join(filter(None, (line.way, line.what, line.text))) for line in self.lines()]
