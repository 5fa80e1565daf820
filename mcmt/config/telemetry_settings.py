"""``opentelemetry`` as the engine holds it (mcmt/config/settings.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import msgspec


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans are sent to, of which messages, and how."""

    endpoint: str
    """``https`` or ``http``, without user, password or fragment: the URL of the traces themselves."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Header fields of each request; their values are secret."""
    tls_ca: Path | None = None
    """PEM; None: the system's authorities."""
    sample_ratio: float = 0.01
    """From 0 to 1, of the messages."""
    sampler: Literal["parentbased_traceidratio", "traceidratio"] = "parentbased_traceidratio"
    """OpenTelemetry's names (OTEL_TRACES_SAMPLER): the first leaves a message with a traceparent to its sender."""
    resource: Mapping[str, str] = MappingProxyType({})
    """Attributes of the resource, beside ours and in place of them."""
    compression: Literal["gzip", "none"] = "gzip"
    batch_size: int = 512
    """Spans in one request, at most."""
    batch_wait: float = 5.0
    """Seconds that a span waits for others."""
    timeout: float = 10.0
    """For one batch, attempts and pauses between them included; then it is given up."""
    max_queued_spans: int = 8192
    """Spans that wait: what comes when there are so many is dropped."""
