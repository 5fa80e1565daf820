"""How one webhook fares, for ``mcmt status`` and ``/metrics``."""

from __future__ import annotations

import msgspec


class WebhookStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Of one webhook. Its URL may be a password, so only the host is told."""

    name: str
    host: str
    state: str
    """``up``; ``down``: the last request failed; ``off``: it answered 410."""
    reason: str = ""
    """What the receiver answered last, where it is not up."""
    events: int = 0
    """That wait."""
    bytes: int = 0
    oldest: float = 0.0
    """Seconds since the oldest event of the batch that is being sent; 0: none is."""
    sent: int = 0
    """Events that were taken, ever."""
    dropped: int = 0
    """Events that were dropped because more than max_queue_size waited, ever."""
    failures: int = 0
    """Requests that failed since the start."""
    next: float | None = None
    """Seconds until the next attempt, where one is waited for."""
