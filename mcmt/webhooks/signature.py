"""Signatures of requests (Standard Webhooks 1.0.0): HMAC-SHA256 over id, time and body, with every secret.

Several secrets are for a change of them: the receiver believes a request when one of the signatures is right.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

_PREFIX = "whsec_"


class Signer:
    """Signs with *secrets*, each ``whsec_`` and base64."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [base64.b64decode(secret.removeprefix(_PREFIX)) for secret in secrets]

    def fields(self, message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
        """The fields of a request. *message_id* has no dot; *timestamp*: of this attempt, seconds since the epoch."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in self._keys]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }
