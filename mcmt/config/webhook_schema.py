"""``webhook`` as it is read out of YAML: names, types, bounds and defaults of its options (mcmt/config/schema.py)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from pydantic import BeforeValidator, Field

from mcmt.config.schema import Span
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.options import FilePath, OptionsModel, Seconds, Size, also_text

WebhookEvent = Literal[
    "received", "delivered", "transient", "permanent", "rejected", "token", "route", "alert", "quarantined"
]
"""What a webhook may be sent: docs/webhooks.md."""


_DEFAULT = {field.name: field.default for field in msgspec.structs.fields(WebhookSettings)}


def _tuple(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError("expected a list such as [a, b]")
    return tuple(value)


def _several(value: object) -> object:
    if not isinstance(value, list | str):
        raise ValueError("expected text in quotes, or a list")
    return tuple(value) if isinstance(value, list) else (value,)


class WebhookStanza(OptionsModel):
    """``webhook``, one webhook"""

    # Services for chats have URLs that are passwords.
    SECRETS = frozenset({"url", "secret"})

    url: str
    secret: Annotated[
        tuple[str, ...],
        BeforeValidator(_several),
        Field(min_length=1, max_length=4),
        also_text({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 4}, ".*"),
    ]
    tls_ca: FilePath | None = None
    events: Annotated[tuple[WebhookEvent, ...], BeforeValidator(_tuple), Field(min_length=1)] = _DEFAULT["events"]
    domains: Annotated[list[str], Field(min_length=1)] | None = None
    groups: Annotated[list[str], Field(min_length=1)] | None = None
    token_log: Literal["full", "masked", "hash", "none"] = _DEFAULT["token_log"]
    batch_size: Annotated[int, Field(ge=1, le=1000)] = _DEFAULT["batch_size"]
    batch_wait: Seconds = _DEFAULT["batch_wait"]
    timeout: Span = _DEFAULT["timeout"]
    retry_interval: Annotated[Seconds, Field(ge=0.1)] = _DEFAULT["retry_interval"]
    max_retry_interval: Span = _DEFAULT["max_retry_interval"]
    max_queue_size: Annotated[Size, Field(ge=1024**2)] = _DEFAULT["max_queue_size"]
