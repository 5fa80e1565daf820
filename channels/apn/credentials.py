"""Certificates and keys as they lie on disk: what they say, and why one cannot be used.

Only for ``mcmt check`` and the start: pushing loads them on its own (transport.py, provider_token.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from mcmt.errors import McmtError
from mcmt.wire.apple_certificate import certificate_environments, certificate_topics

from .stamps import Stamp, stamp

_REMEMBERED = 256
_TO_PEM = (
    "convert it with: openssl x509 -inform der -in FILE -out cert.pem, or openssl pkcs12 -in FILE -out cert.pem -nodes"
)


class CredentialError(McmtError):
    """A credential cannot be used; the text says why and what to do."""

    def __init__(self, text: str, *, about_key: bool = False) -> None:
        super().__init__(text)
        self.about_key = about_key


class Credential(msgspec.Struct, frozen=True):
    """A client certificate with its key."""

    subject: str
    topics: tuple[str, ...]
    environments: tuple[str, ...]
    not_before: float
    """Seconds since the epoch, as ``not_after``."""
    not_after: float
    key_file: Path

    def days_left(self, now: float) -> float:
        """Negative when it has expired."""
        return (self.not_after - now) / 86400

    def summary(self, now: float) -> str:
        """One line for ``mcmt check``."""
        until = datetime.fromtimestamp(self.not_after, UTC).strftime("%Y-%m-%d")
        topics = f"topics {', '.join(self.topics)}" if self.topics else "no topics"
        environments = f"; {' and '.join(self.environments)}" if self.environments else ""
        days = self.days_left(now)
        left = f"{days:.0f} days left" if days >= 0 else f"expired {-days:.0f} days ago"
        return f"certificate of {self.subject}; {topics}{environments}; valid until {until}, {left}"


def read_certificate(certificate_file: Path, key_file: Path | None) -> Credential:
    """The first certificate of a PEM file and its key, from *key_file* or the same file. Raises CredentialError."""
    return _read_certificate(certificate_file, key_file, stamp(certificate_file, key_file))


# Thousands of domains may share some files: each is looked into once. An RSA key of 2,048 bits takes OpenSSL 28 ms:
# 5,000 domains with 50 certificates would take 140 s, and take 1.4.
@lru_cache(_REMEMBERED)
def _read_certificate(certificate_file: Path, key_file: Path | None, version: Stamp) -> Credential:  # noqa: ARG001 - tells versions of the files apart
    content = _read(certificate_file)
    try:
        certificate = x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        raise CredentialError(f"{certificate_file} is not a certificate in PEM; {_TO_PEM}") from None
    if key_file is None and b"PRIVATE KEY-----" not in content:
        raise CredentialError(f"has no key: set tls_key ({certificate_file} has none in it)")
    holder = key_file or certificate_file
    key = _private_key(holder)
    try:
        fits = _public(key.public_key()) == _public(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialError(f"{certificate_file} has a key that cannot be used: {error}") from None
    if not fits:
        raise CredentialError(f"the key in {holder} is not that of the certificate {certificate_file}", about_key=True)
    return Credential(
        subject=_subject(certificate),
        topics=certificate_topics(certificate),
        environments=certificate_environments(certificate),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        key_file=holder,
    )


def check_signing_key(file: Path) -> None:
    """Apple's .p8: a P-256 key in PEM. Raises CredentialError when it is none."""
    _check_signing_key(file, stamp(file))


@lru_cache(_REMEMBERED)
def _check_signing_key(file: Path, version: Stamp) -> None:  # noqa: ARG001 - tells versions of the file apart
    key = _private_key(file)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CredentialError(f"{file} is not a P-256 key, as Apple's .p8 files are")


def read_authorities(file: Path) -> int:
    """How many certificates a PEM file of authorities has. Raises CredentialError."""
    return _read_authorities(file, stamp(file))


@lru_cache(_REMEMBERED)
def _read_authorities(file: Path, version: Stamp) -> int:  # noqa: ARG001 - tells versions of the file apart
    try:
        return len(x509.load_pem_x509_certificates(_read(file)))
    except ValueError:
        raise CredentialError(f"{file} has no certificates in PEM") from None


def _subject(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string() or "nobody"


def _read(file: Path, *, about_key: bool = False) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CredentialError(f"{file} cannot be read: {error.strerror}", about_key=about_key) from None


def _private_key(file: Path) -> PrivateKeyTypes:
    content = _read(file, about_key=True)
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        text = f"{file} is protected by a passphrase; remove it with: openssl pkey -in {file} -out key.pem"
    except Exception:  # cryptography has its own exceptions for unknown kinds of keys, beside ValueError
        text = f"{file} is not a private key in PEM"
    raise CredentialError(text, about_key=True)


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
