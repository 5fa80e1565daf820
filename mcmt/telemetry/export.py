"""How spans are sent: OpenTelemetry's batch processor and its OTLP exporter, on a thread of the SDK's.

The processor's queue has a limit, and tells nobody what it drops. So the spans that it has been given and those that it
has passed on to the exporter are counted here, and nothing is put where there is no room.

The exporter tries a request again until ``timeout`` and says why it failed in its own log alone: that is read here, and
does not go to standard error, where a collector that is down would be a line every second.

Rules: the one file that imports OpenTelemetry. ``put`` in the event log's thread, ``_Outlet`` in the SDK's, everything
else on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

import mcmt
from mcmt.config.telemetry_settings import TelemetrySettings
from mcmt.telemetry.spans import Span
from mcmt.telemetry.status import TelemetryStatus

_LOGGER = "opentelemetry.exporter"
_KINDS = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_ENDING = 0.5
"""Seconds that a request which was broken off may take to end."""


class SpanExport:
    """To one collector. What is put here goes there by itself."""

    def __init__(self, settings: TelemetrySettings, hostname: str, tell: Callable[[str], None]) -> None:
        """*tell* takes one line for stderr, from any thread."""
        self._settings = settings
        self._tell = tell
        self._outlet = _Outlet(settings, tell)
        self._processor = BatchSpanProcessor(
            self._outlet,
            max_queue_size=settings.max_queued_spans,
            schedule_delay_millis=settings.batch_wait * 1000,
            max_export_batch_size=min(settings.batch_size, settings.max_queued_spans),
            export_timeout_millis=settings.timeout * 1000,
        )
        ours = {"service.name": "mcmt", "service.version": mcmt.__version__, "service.instance.id": hostname}
        self._resource = Resource.create({**ours, "host.name": hostname, **settings.resource})
        self._scope = InstrumentationScope("mcmt", mcmt.__version__)
        self._given = 0
        self._dropped = 0
        self._full = False

    def put(self, span: Span) -> None:
        """Have it sent, or drop it where too many wait. Never waits."""
        waiting = self._given - self._outlet.taken
        if waiting >= self._settings.max_queued_spans:
            self._dropped += 1
            if not self._full:
                self._full = True
                self._tell(
                    f"opentelemetry: more than {self._settings.max_queued_spans} spans wait (max_queued_spans), and "
                    "what comes is dropped from now on; mcmt status counts them"
                )
            return
        # One warning for one time of trouble, which is over when half of it was taken.
        self._full = self._full and waiting > self._settings.max_queued_spans // 2
        self._given += 1
        self._processor.on_end(self._readable(span))

    def status(self) -> TelemetryStatus:
        """How it fares."""
        outlet = self._outlet
        return TelemetryStatus(
            host=urlsplit(self._settings.endpoint).netloc,
            state="down" if outlet.reason else "up",
            reason=outlet.reason,
            waiting=max(0, self._given - outlet.taken),
            sent=outlet.sent,
            dropped=self._dropped,
            lost=outlet.lost,
        )

    async def stop(self, limit: float) -> None:
        """Send what waits, for up to *limit* seconds."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def shut() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call] # the SDK's
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        # The SDK gives it 30 seconds. A daemon: a collector that does not answer must not keep the process.
        Thread(target=shut, name="mcmt-spans", daemon=True).start()
        try:
            await asyncio.wait_for(ended.wait(), limit)
        except TimeoutError:
            self._outlet.break_off()
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _ENDING)
        self._outlet.forget()
        if left := self._given - self._outlet.sent - self._outlet.lost:
            self._tell(f"opentelemetry: {left} spans were not sent before the end")

    def _readable(self, span: Span) -> ReadableSpan:
        trace_id = int(span.trace_id, 16)
        parent = None
        if span.parent_id:
            parent = SpanContext(trace_id, int(span.parent_id, 16), span.remote_parent, _SAMPLED)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), False, _SAMPLED),
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=int(span.start * 1e9),
            end_time=int(span.end * 1e9),
            instrumentation_scope=self._scope,
        )


class _Outlet(SpanExporter):
    """The exporter, and what became of what it was given."""

    def __init__(self, settings: TelemetrySettings, tell: Callable[[str], None]) -> None:
        session = requests.Session()
        session.hooks["response"].append(_refuse_redirection)
        self._inner = OTLPSpanExporter(
            endpoint=settings.endpoint,
            certificate_file=str(settings.tls_ca) if settings.tls_ca else None,
            headers=dict(settings.headers),
            timeout=settings.timeout,
            compression=Compression.Gzip if settings.compression == "gzip" else Compression.NoCompression,
            session=session,
        )
        self._tell = tell
        self._host = urlsplit(settings.endpoint).netloc
        self._query = urlsplit(settings.endpoint).query
        """It may be a password, and stands in what the exporter says."""
        self._broken_off = False
        self._said = _Said()
        self._said.listen()
        self.taken = self.sent = self.lost = 0
        self.reason = ""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See SpanExporter."""
        self.taken += len(spans)
        if self._broken_off:
            return SpanExportResult.FAILURE
        self._said.text = ""
        try:
            result = self._inner.export(spans)
        except Exception as error:  # it is caught there too; nothing may end the SDK's thread
            self._said.text, result = f"[internal] {type(error).__name__}: {error}", SpanExportResult.FAILURE
        if self._broken_off:
            return result
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
            if self.reason:
                self._tell(f"opentelemetry: {self._host} takes spans again")
            self.reason = ""
        else:
            self.lost += len(spans)
            said = self._said.text or "no reason given"
            before, self.reason = self.reason, said.replace(self._query, "...") if self._query else said
            if not before:
                self._tell(f"opentelemetry: {self._host} takes no spans, and they are dropped: {self.reason}")
        return result

    def break_off(self) -> None:
        """End the request that is being made, and make no other."""
        self._broken_off = True
        self._inner.shutdown()  # type: ignore[no-untyped-call] # the SDK's

    def forget(self) -> None:
        """Nothing more is told of it."""
        self._said.forget()

    def shutdown(self) -> None:
        """See SpanExporter."""
        if not self._broken_off:
            self._inner.shutdown()  # type: ignore[no-untyped-call] # the SDK's

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - SpanExporter's
        """See SpanExporter."""
        return True


def _refuse_redirection(response: requests.Response, **_: object) -> None:
    # The exporter follows none, and takes it for a success.
    if 300 <= response.status_code < 400:
        response.close()
        raise requests.HTTPError(f"{response.status_code} {response.reason}: the endpoint is elsewhere")


class _Said(logging.Handler):
    """Keeps what the exporter said last of a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler. The first is the cause; what follows is that it was tried again."""
        with suppress(Exception):
            self.text = self.text or record.getMessage()

    def listen(self) -> None:
        """From now on, in place of whoever else would hear it."""
        logger = logging.getLogger(_LOGGER)
        logger.addHandler(self)
        logger.propagate = False

    def forget(self) -> None:
        """No more."""
        logger = logging.getLogger(_LOGGER)
        logger.removeHandler(self)
        logger.propagate = not logger.handlers
