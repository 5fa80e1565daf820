"""How the export of spans fares, for ``mcmt status`` and ``/metrics``."""

from __future__ import annotations

import msgspec


class TelemetryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are of spans, since the engine was started or ``opentelemetry`` changed."""

    host: str
    """Where they are sent to: host and port."""
    state: str
    """``up``; ``down``: the last request failed."""
    reason: str = ""
    """Why, where it is not up."""
    waiting: int = 0
    sent: int = 0
    """That the collector has taken."""
    dropped: int = 0
    """That were made while more than max_queued_spans waited."""
    lost: int = 0
    """That were sent for ``timeout`` in vain, or refused."""
