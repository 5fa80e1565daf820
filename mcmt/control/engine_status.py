"""What ``status`` is answered first: the engine as a whole (mcmt/control/protocol.py)."""

from __future__ import annotations

import msgspec

from mcmt.intake.sources import SourceStatus
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.telemetry.status import TelemetryStatus
from mcmt.webhooks.status import WebhookStatus


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The engine as a whole."""

    version: str
    pid: int
    uptime: float
    """Seconds since the start."""
    config: str
    addresses: tuple[tuple[str, int], ...]
    """Where SMTP is listened for."""
    listening: tuple[tuple[str, str, int], ...] = ()
    """What is spoken where, over all doors: the word, host and port."""
    sessions: int
    """SMTP clients connected."""
    spool: str
    queued: int
    """Deliveries in the spool, those that are out included."""
    held: int = 0
    """Of these, held by hand."""
    owed: int = 0
    """Reports that senders are owed and that are not made yet."""
    resident: int
    """Deliveries in memory."""
    quarantined: int
    """Spool rows that could not be read."""
    outbox_lag: float
    """Seconds that the oldest event has waited for its line in the logs; 0: none waits."""
    workers: tuple[int, ...] = ()
    """Pids of the processes that deliver."""
    missing: tuple[str, ...] = ()
    """Workers that are not there at the moment, and why; what they hold is not counted."""
    webhooks: tuple[WebhookStatus, ...] = ()
    telemetry: TelemetryStatus | None = None
    """The export of spans; None: there is none."""
    stuck: bool = False
    """A shard refuses what became of deliveries, and nothing is sent from it until it takes it."""
    sources: tuple[SourceStatus, ...] = ()
    """What jobs are taken from."""
    components: tuple[Attachment, ...] = ()
