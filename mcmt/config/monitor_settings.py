"""``monitor`` as the engine holds it (mcmt/config/settings.py)."""

from __future__ import annotations

import msgspec


class MonitorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What others may see of the engine."""

    listen: tuple[str | None, int] | None = None
    """Host (None: every address) and port, for ``/metrics``, ``/healthz`` and ``/readyz``; None: nobody listens."""
    max_metric_domains: int = 100
    """Domains that are counted by name."""
    alert_suspended: float = 3600.0
    """Seconds that a domain with mail may be suspended until an alert; 0: no alert."""
    alert_oldest: float = 6 * 3600.0
    """Seconds that a delivery may wait until an alert; 0: no alert."""
    alert_disconnected: float = 900.0
    """Seconds that a source, a component or a webhook may be out of reach until an alert; 0: no alert."""
