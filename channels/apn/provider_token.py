"""Provider tokens: made once a key, shared by every connection, kept over restarts.

Apple (Establishing a token-based connection to APNs): a JWT signed with ES256, header ``alg`` and
``kid``, claims ``iss`` and ``iat``; refused when older than an hour (ExpiredProviderToken); renewed more
often than every 20 minutes it is refused too (TooManyProviderTokenUpdates). ECDSA signatures differ
each time, so one token has to be kept and handed to everybody byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from mcmt.channel.port import State
from mcmt.clock import Clock
from mcmt.errors import ConnectError, RouteFaultError, SpoolError

RENEW_AFTER = 45 * 60.0
"""Seconds; Apple refuses after 60 minutes."""
NOT_BEFORE = 20 * 60.0
"""Seconds; Apple refuses a newer token that comes sooner."""


class _Kept(msgspec.Struct, frozen=True):
    issued_at: float
    token: str


class ProviderToken:
    """The current token of one key, which is read anew for each connection.

    Raises RouteFaultError when it cannot be read or is not one of Apple's. ``current`` and ``replace`` raise
    ConnectError when tokens cannot be kept now: none is made then, or the next connection would make one too soon.
    """

    def __init__(self, key_file: Path, key_id: str, team_id: str, state: State, clock: Clock) -> None:
        self._key = read_key(key_file)
        self._key_id = key_id
        self._team_id = team_id
        self._state = state
        self._clock = clock
        # Of this very key: a token made with a key that was replaced since is never sent again.
        self._name = f"provider_token/{team_id}/{key_id}/{_fingerprint(self._key)}"
        self._kept: _Kept | None = None

    def current(self) -> str:
        """The token to send now."""
        now = self._clock.time()
        if self._kept is None or not _fresh(self._kept, now):
            # Another connection may have renewed it already.
            stored, self._kept = self._load()
            if self._kept is None or not _fresh(self._kept, now):
                self._kept = self._make(now, stored)
        return self._kept.token

    def replace(self, refused: str) -> bool:
        """Apple refused the token *refused*: whether there is, or may be made, another one."""
        stored, self._kept = self._load()
        if self._kept is not None and self._kept.token == refused:
            if 0 <= self._clock.time() - self._kept.issued_at < NOT_BEFORE:
                return False
            self._kept = self._make(self._clock.time(), stored)
        return True

    def _load(self) -> tuple[bytes | None, _Kept | None]:
        """What is stored, and what it says."""
        try:
            stored = self._state.get(self._name)
        except SpoolError as error:
            raise _cannot_keep(error) from error
        return stored, _read(stored)

    def _make(self, now: float, before: bytes | None) -> _Kept:
        """A new token in the place of what was stored *before*; or the one that another worker has just put there."""
        kept = _Kept(float(int(now)), sign(self._key, self._key_id, self._team_id, int(now)))
        try:
            if self._state.swap(self._name, before, msgspec.json.encode(kept)):
                return kept
        except SpoolError as error:
            raise _cannot_keep(error) from error
        _, kept_there = self._load()
        if kept_there is None:
            raise ConnectError("the provider token that another worker made cannot be read")
        return kept_there


def _read(stored: bytes | None) -> _Kept | None:
    if stored is None:
        return None
    try:
        return msgspec.json.decode(stored, type=_Kept)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Apple's .p8 file. Raises RouteFaultError naming it."""
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise RouteFaultError(f"apn_auth_key {file} cannot be read as a private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RouteFaultError(f"apn_auth_key {file} is not a P-256 key, as Apple's .p8 files are")
    return key


def sign(key: ec.EllipticCurvePrivateKey, key_id: str, team_id: str, issued_at: int) -> str:
    """A JWS in compact form (RFC 7515) over Apple's claims; *issued_at* in seconds since the epoch."""
    head = _base64url(msgspec.json.encode({"alg": "ES256", "kid": key_id}))
    claims = _base64url(msgspec.json.encode({"iss": team_id, "iat": issued_at}))
    signed = f"{head}.{claims}"
    # RFC 7518 3.4: the signature is R and S side by side, 32 bytes each, not the DER form.
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _fingerprint(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    return hashlib.sha256(public).hexdigest()[:16]


def _cannot_keep(error: SpoolError) -> ConnectError:
    return ConnectError(f"the provider token cannot be kept: {error}")


def _fresh(kept: _Kept, now: float) -> bool:
    # A token from the future was made before the clock was set back: Apple would refuse it.
    return 0 <= now - kept.issued_at < RENEW_AFTER


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
