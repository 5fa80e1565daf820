"""The listener's certificate: loaded, and loaded again when its files have changed.

Rules: the files are looked at when a client asks for TLS, so a renewed certificate serves the next connection; one that
cannot be loaded changes nothing, and is told once. It must not know a session.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

log = logging.getLogger(__name__)

_SSL_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
        "PEM lib": "the certificate or the key is not PEM, or is cut",
        "EE_KEY_TOO_SMALL": "the certificate's key is too small to be safe; have a new one made",
    }
)

_Version = tuple[tuple[int, int, int], ...]


class CertificateFiles:
    """A certificate with its key, as files that others may change."""

    def __init__(self, certificate: Path, key: Path | None, client_ca: Path | None = None) -> None:
        """*client_ca*: who signs clients' certificates, which are needed then. Raises OSError, ssl.SSLError."""
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._version = self._look()
        self._context = self._make()

    def context(self) -> ssl.SSLContext:
        """What a handshake that begins now uses."""
        try:
            version = self._look()
        except OSError:
            version = ()
        if version != self._version:
            # Looked at before it is loaded: what changes meanwhile is loaded next time.
            self._version = version
            try:
                self._context = self._make()
            except (OSError, ssl.SSLError) as error:
                reason = reason_of(error)
                log.error("%s: the old certificate stays in use: %s", self._certificate, reason)
            else:
                log.info("%s: the new certificate is in use", self._certificate)
        return self._context

    def _make(self) -> ssl.SSLContext:
        context = _make_context(self._certificate, self._key)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
            # A client that sends and closes without ever reading would answer a session ticket (RFC 8446 4.6.1) with a
            # reset, which can overtake what it sent.
            context.num_tickets = 0
        return context

    def _look(self) -> _Version:
        stats = [file.stat() for file in (self._certificate, self._key, self._client_ca) if file is not None]
        return tuple([(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats])


def _make_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 8996: TLS 1.0 and 1.1 must not be used.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client that asks for handshake after handshake would have us compute for nothing.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Without a callback OpenSSL would ask the terminal for a passphrase.
    context.load_cert_chain(certificate, key, password=_no_passphrase)
    return context


def _no_passphrase() -> str:
    raise ssl.SSLError("the key is protected by a passphrase; remove it with: openssl pkey -in FILE -out key.pem")


def reason_of(error: OSError | ssl.SSLError) -> str:
    """Why files could not be loaded, in an operator's words."""
    if isinstance(error, ssl.SSLError):
        text = str(error.args[-1])
        return next((words for code, words in _SSL_REASONS.items() if code in text), text)
    return f"a file cannot be read: {error.strerror}"
