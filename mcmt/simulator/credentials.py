"""Everything a client and the simulator need to know each other, in one folder.

    ca.pem  ca.key                  the authority; clients trust it (tls_ca)
    server.pem  server.key          for localhost, 127.0.0.1 and ::1
    client.pem  client.key          certificate authentication, with Apple's topic extension
    AuthKey_<key id>.p8 (two)       provider tokens; the second one to try a key's replacement
    credentials.json                team id, key ids, topics: written last, so its folder is complete

They are good for the simulator alone. The folder is 0700, every key 0600.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mcmt.clock import Clock, SystemClock
from mcmt.errors import ConfigError, Fault
from mcmt.simulator.topic_extension import DEVELOPMENT, PRODUCTION, TOPICS, encode_topics

_MANIFEST = "credentials.json"
_LIFETIME = timedelta(days=825)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789"
_CERTIFICATE_KINDS = (("", "app"), (".voip", "voip"), (".complication", "complication"))
"""What Apple puts into a push certificate for one bundle id: suffix and kind."""


class _Manifest(msgspec.Struct, frozen=True):
    team_id: str
    key_ids: tuple[str, ...]
    topics: tuple[str, ...]


class Credentials(msgspec.Struct, frozen=True):
    """Paths and ids; no secret itself."""

    folder: Path
    team_id: str
    key_ids: tuple[str, ...]
    """The first one is the one to use."""
    topics: tuple[str, ...]
    """Bundle ids that the keys and the client certificate may push to."""

    @property
    def ca(self) -> Path:
        """The authority that signed both certificates: option tls_ca."""
        return self.folder / "ca.pem"

    @property
    def server_certificate(self) -> Path:
        """The simulator's own."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """The simulator's own."""
        return self.folder / "server.key"

    @property
    def client_certificate(self) -> Path:
        """Option tls_certificate."""
        return self.folder / "client.pem"

    @property
    def client_key(self) -> Path:
        """Option tls_key."""
        return self.folder / "client.key"

    @property
    def key_id(self) -> str:
        """Option apn_key_id."""
        return self.key_ids[0]

    @property
    def auth_key(self) -> Path:
        """Option apn_auth_key."""
        return self.auth_key_of(self.key_id)

    def auth_key_of(self, key_id: str) -> Path:
        """The .p8 file of one key."""
        return self.folder / f"AuthKey_{key_id}.p8"

    def public_keys(self) -> dict[str, ec.EllipticCurvePublicKey]:
        """Key id to what verifies its tokens. Raises ConfigError naming the file that cannot be read."""
        keys = {}
        for key_id in self.key_ids:
            path = self.auth_key_of(key_id)
            try:
                key = serialization.load_pem_private_key(path.read_bytes(), None)
            except (OSError, ValueError, TypeError) as error:
                raise _unusable(path, f"is not a readable private key: {error}") from error
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise _unusable(path, "is not an elliptic-curve key")
            keys[key_id] = key.public_key()
        return keys

    def server_context(self) -> ssl.SSLContext:
        """TLS as Apple's gateway speaks it: 1.2 or later, ALPN h2, a client certificate welcome but not needed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_cert_chain(self.server_certificate, self.server_key)
            context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(self.folder, f"its certificates cannot be used: {error}") from error
        return context


def make_credentials(
    folder: Path, topics: Sequence[str] = ("com.example.app",), clock: Clock | None = None
) -> Credentials:
    """Write a new set into *folder*, made if absent; a complete set that is there already is used as it is.

    Raises ConfigError when the folder cannot be written, holds part of a set, has expired, or was made
    for other topics.
    """
    now = datetime.fromtimestamp((clock or SystemClock()).time(), UTC)
    folder = folder.absolute()
    try:
        if (folder / _MANIFEST).exists():
            return _load(folder, topics, now)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / "ca.pem").exists():
            raise _unusable(folder, f"holds part of a set, without {_MANIFEST}")
        return _make(folder, tuple(topics), now)
    except OSError as error:
        raise ConfigError((Fault(str(error.filename or folder), "", f"{error.strerror}"),)) from error


def load_credentials(folder: Path, clock: Clock | None = None) -> Credentials:
    """The set in *folder*. Raises ConfigError when there is none, or it has expired."""
    now = datetime.fromtimestamp((clock or SystemClock()).time(), UTC)
    return _load(folder.absolute(), (), now)


def _load(folder: Path, topics: Sequence[str], now: datetime) -> Credentials:
    path = folder / _MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
        expiry = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes()).not_valid_after_utc
    except OSError as error:
        raise ConfigError((Fault(str(error.filename or path), "", f"{error.strerror}"),)) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise _unusable(folder, f"cannot be read: {error}") from error
    if expiry <= now:
        raise _unusable(folder, f"its certificates expired on {expiry:%Y-%m-%d}")
    if missing := set(topics) - set(manifest.topics):
        raise _unusable(
            folder, f"was made for {', '.join(manifest.topics)}, not for {', '.join(sorted(missing))}; give another one"
        )
    return Credentials(folder, manifest.team_id, manifest.key_ids, manifest.topics)


def _unusable(path: Path, text: str) -> ConfigError:
    return ConfigError((Fault(str(path), "", f"{text}; remove the folder and a new set is made"),))


def _make(folder: Path, topics: tuple[str, ...], now: datetime) -> Credentials:
    made = Credentials(folder, _identifier(), (_identifier(), _identifier()), topics)
    authority, authority_key = _authority(folder, now)

    def issue(name: str, subject: x509.Name, usage: x509.ObjectIdentifier, *extensions: x509.ExtensionType) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, authority.subject, key, now).add_extension(x509.ExtendedKeyUsage([usage]), False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False
        )
        for extension in extensions:
            builder = builder.add_extension(extension, False)
        certificate = builder.add_extension(x509.BasicConstraints(False, None), True).sign(
            authority_key, hashes.SHA256()
        )
        _write(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        _write(folder / f"{name}.key", _private(key), 0o600)

    issue(
        "server",
        _name(NameOID.COMMON_NAME, "mcmt simulator"),
        ExtendedKeyUsageOID.SERVER_AUTH,
        x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), *(x509.IPAddress(ip_address(text)) for text in ("127.0.0.1", "::1"))]
        ),
    )
    pairs = [(topic + suffix, kind) for topic in topics for suffix, kind in _CERTIFICATE_KINDS]
    issue(
        "client",
        x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, topics[0]),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Apple Push Services: {topics[0]}"[:64]),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, made.team_id),
            ]
        ),
        ExtendedKeyUsageOID.CLIENT_AUTH,
        x509.UnrecognizedExtension(TOPICS, encode_topics(pairs)),
        # Both environments, as a universal push certificate; the value is a DER NULL.
        x509.UnrecognizedExtension(DEVELOPMENT, b"\x05\x00"),
        x509.UnrecognizedExtension(PRODUCTION, b"\x05\x00"),
    )
    for key_id in made.key_ids:
        _write(made.auth_key_of(key_id), _private(ec.generate_private_key(ec.SECP256R1())), 0o600)
    manifest = {"team_id": made.team_id, "key_ids": made.key_ids, "topics": topics}
    _write(folder / _MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n", 0o644)
    return made


def _authority(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(NameOID.COMMON_NAME, "mcmt simulator authority")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(True, 0), True)
        .add_extension(usage, True)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(folder / "ca.key", _private(key), 0o600)
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour back, for clients whose clock is behind.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _name(kind: x509.ObjectIdentifier, value: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value)])


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _identifier() -> str:
    """Ten characters, as Apple's key and team ids have."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def _write(path: Path, content: bytes, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
