"""``webhook`` as the engine holds it (mcmt/config/settings.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

WEBHOOK_DEFAULT: Final = ("delivered", "permanent", "token", "alert")
"""The kinds of events that a webhook is sent unless it says otherwise."""


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook: a URL, the events that are sent to it, and how."""

    name: str
    url: str
    """``https`` or ``http``, without user, password or fragment."""
    secret: tuple[str, ...]
    """Each ``whsec_`` and base64: every request is signed with all of them."""
    tls_ca: Path | None = None
    """PEM; None: the system's authorities."""
    events: tuple[str, ...] = WEBHOOK_DEFAULT
    """Words of WebhookEvent (mcmt/config/webhook_schema.py)."""
    domains: tuple[str, ...] | None = None
    """Names in lower case and ``/expressions/``, those of groups included; None: all, and what concerns none."""
    token_log: Literal["full", "masked", "hash", "none"] = "full"  # noqa: S105 - a word, not a secret
    batch_size: int = 100
    batch_wait: float = 1.0
    """Seconds from an event until it is sent, though the batch is not full."""
    timeout: float = 15.0
    """For one whole request, from the look-up of the host to the end of the answer."""
    retry_interval: float = 5.0
    max_retry_interval: float = 300.0
    max_queue_size: int = 256 * 1024**2
    """Bytes of events that wait: past them the oldest are dropped."""
