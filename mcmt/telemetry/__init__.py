"""OpenTelemetry: a trace of every message that is sampled, made of the events that the event log reads.

spans: what an event becomes, pure; telemetry: which events are taken, and what is counted; export: how spans are sent,
the one file that imports OpenTelemetry's SDK, and only where the configuration has ``opentelemetry``: it is an extra.
"""

from __future__ import annotations

NEEDS_OPENTELEMETRY = "opentelemetry needs OpenTelemetry's SDK and its OTLP exporter: pip install 'mcmt[otel]'"
