"""Provider tokens, read and verified as Apple does (JWS compact, ES256; RFC 7515, RFC 7518 3.4).

Source: Apple, "Establishing a token-based connection to APNs". Age and the connection's history are not
judged here: judge.py does that, on its clock.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

_MAX_TOKENS = 256
_MAX_LENGTH = 4096


class ProviderToken(msgspec.Struct, frozen=True):
    """A token whose signature is good."""

    key_id: str
    issued_at: float
    """Seconds since the epoch: the claim ``iat``."""


class TokenVerifier:
    """Verifies each distinct token once and remembers the last 256."""

    def __init__(self, team_id: str, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> None:
        self._team_id = team_id
        self._keys = keys
        self._known: OrderedDict[str, ProviderToken | None] = OrderedDict()

    def verify(self, text: str) -> ProviderToken | None:
        """The token that *text* is; None where Apple says InvalidProviderToken."""
        if text in self._known:
            return self._known[text]
        token = self._verify(text) if len(text) <= _MAX_LENGTH else None
        self._known[text] = token
        if len(self._known) > _MAX_TOKENS:
            self._known.popitem(last=False)
        return token

    def _verify(self, text: str) -> ProviderToken | None:
        parts = text.split(".")
        if len(parts) != 3:
            return None
        try:
            header, claims = _json(parts[0]), _json(parts[1])
            signature = _base64url(parts[2])
        except (binascii.Error, ValueError, msgspec.DecodeError):
            return None
        key_id, issued_at = header.get("kid"), claims.get("iat")
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if header.get("alg") != "ES256" or key is None or claims.get("iss") != self._team_id:
            return None
        if isinstance(issued_at, bool) or not isinstance(issued_at, int | float):
            return None
        # RFC 7518 3.4: the signature is R and S, 32 octets each, big-endian.
        if len(signature) != 64:
            return None
        der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        try:
            key.verify(der, f"{parts[0]}.{parts[1]}".encode(), ec.ECDSA(SHA256()))
        except InvalidSignature:
            return None
        return ProviderToken(str(key_id), issued_at)


def _json(part: str) -> dict[str, Any]:
    return msgspec.json.decode(_base64url(part), type=dict[str, Any])


def _base64url(part: str) -> bytes:
    # RFC 7515 2: base64url without padding.
    if "=" in part:
        raise ValueError("padded")
    return base64.b64decode(part.encode("ascii") + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
