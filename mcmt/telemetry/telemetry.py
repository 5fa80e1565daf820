"""Which events have become spans: an EventTable (mcmt/eventlog/outbox.py) that keeps nothing.

Rows that are read again, because a logger could not write them, are passed by. Over a crash they are not, and the same
spans are sent again, under the same ids.

Without ``opentelemetry`` in the configuration an event costs nothing, and nothing is imported.

Rules: ``take`` and ``save`` in the event log's thread, everything else on the event loop. ``take`` neither waits nor
raises, whatever a collector does, and whatever stands in an event.

Measured on one core: 0.2 us an event where one message of a hundred is sampled, 1.1 us one that is not and has a
traceparent, 8 us a span, and 35 us for it in the SDK's thread, beside 17 us and more that the event log needs for an
event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from mcmt.config.telemetry_settings import TelemetrySettings
from mcmt.errors import TelemetryError
from mcmt.eventlog.outbox import EventTable
from mcmt.message.event import OutboxRow
from mcmt.telemetry import NEEDS_OPENTELEMETRY
from mcmt.telemetry.spans import Sampler, Span, spans_of
from mcmt.telemetry.status import TelemetryStatus

STOPPING = 5.0
"""Seconds that the last spans may take when the engine stops, or when a reload changes where they go."""


class Export(Protocol):
    """``mcmt.telemetry.export.SpanExport``, which is imported only where it is used."""

    def put(self, span: Span) -> None:
        """See SpanExport."""

    def status(self) -> TelemetryStatus:
        """See SpanExport."""

    async def stop(self, limit: float) -> None:
        """See SpanExport."""


class Telemetry:
    """``EventTable`` in front of another one."""

    def __init__(
        self, behind: EventTable, settings: TelemetrySettings | None, hostname: str, tell: Callable[[str], None]
    ) -> None:
        """*tell* takes one line for stderr, from any thread. Raises TelemetryError: the extra is not installed."""
        self._behind = behind
        self._tell = tell
        self._read: dict[str, int] = {}
        self._unreadable = False
        self._hostname = hostname
        self._settings: TelemetrySettings | None = None
        # Both at once, for the event log's thread.
        self._going: tuple[Sampler, Export] | None = None
        self._swap(settings)

    # -- mcmt.eventlog.outbox.EventTable ------------------------------------------------------------------------------

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        """See EventTable."""
        going = self._going
        if going is not None and rows:
            sampler, export = going
            read = self._read.get(shard, 0)
            try:
                for span in spans_of(shard, [row for row in rows if row.sequence > read], sampler):
                    export.put(span)
            except Exception as error:  # one event of which no span can be made must not stop the log
                if not self._unreadable:
                    self._unreadable = True
                    self._tell(f"opentelemetry: [internal] an event cannot be told: {type(error).__name__}: {error}")
            self._read[shard] = max(read, rows[-1].sequence)
        self._behind.take(shard, rows)

    def save(self) -> None:
        """See EventTable."""
        self._behind.save()

    # -- on the event loop --------------------------------------------------------------------------------------------

    def status(self) -> TelemetryStatus | None:
        """How the export fares; None: there is none."""
        return None if self._going is None else self._going[1].status()

    async def stop(self) -> None:
        """Send what waits, for STOPPING seconds at most. Nothing is taken any more."""
        if (before := self._swap(None)) is not None:
            await before.stop(STOPPING)

    async def prepare(self, settings: TelemetrySettings | None) -> None:
        """Have what these need at hand. Raises TelemetryError: then nothing has changed."""
        if settings is not None:
            await asyncio.to_thread(_span_export)

    async def reload(self, settings: TelemetrySettings | None) -> None:
        """Go on by these, which ``prepare`` was called for; what waits goes where it was to go."""
        if settings != self._settings and (before := self._swap(settings)) is not None:
            await before.stop(STOPPING)

    def _swap(self, settings: TelemetrySettings | None) -> Export | None:
        """The export that there was."""
        going = None
        if settings is not None:
            sampler = Sampler(settings.sample_ratio, parent_based=settings.sampler == "parentbased_traceidratio")
            going = sampler, _span_export()(settings, self._hostname, self._tell)
        before, self._going, self._settings = self._going, going, settings
        return None if before is None else before[1]


def _span_export() -> Callable[..., Export]:
    try:
        # Here and not above: an extra, which only this stanza needs.
        from mcmt.telemetry.export import SpanExport
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise TelemetryError(NEEDS_OPENTELEMETRY) from None
    return SpanExport
