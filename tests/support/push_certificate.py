"""Push certificates as Apple issues them, and as Apple would not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcmt.simulator.topic_extension import DEVELOPMENT, PRODUCTION, TOPICS, encode_topics

_ENVIRONMENTS = {"sandbox": DEVELOPMENT, "production": PRODUCTION}


def push_certificate(
    uid: str = "com.example.app",
    *,
    topics: Sequence[str] = (),
    environments: Sequence[str] = ("sandbox", "production"),
    begin: float = -1,
    days: float = 30,
    passphrase: bytes | None = None,
    with_key: bool = True,
    other_key: bool = False,
) -> str:
    """PEM of certificate and key, as pyapns was given it. *begin* and *days*: from now on."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, "Apple Push Services")]
    if uid:
        names.append(x509.NameAttribute(NameOID.USER_ID, uid))
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(x509.Name(names))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begin))
        .not_valid_after(now + timedelta(days=days))
    )
    for environment in environments:
        builder = builder.add_extension(x509.UnrecognizedExtension(_ENVIRONMENTS[environment], b"\x05\x00"), False)
    if topics:
        value = encode_topics([(topic, "app") for topic in topics])
        builder = builder.add_extension(x509.UnrecognizedExtension(TOPICS, value), False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    if not with_key:
        return pem
    shown = ec.generate_private_key(ec.SECP256R1()) if other_key else key
    kept = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    encoded = shown.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, kept)
    return pem + encoded.decode()
