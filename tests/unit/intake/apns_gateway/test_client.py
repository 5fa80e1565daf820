"""Who may push through the gateway, and to which domain."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcmt.message.event import Kind
from tests.support.old_sender import enhanced, token
from tests.support.tls import Certificates
from tests.unit.intake.apns_gateway.conftest import Gate, Server

UID = "com.example.app"


def self_signed(folder: Path, uid: str = UID) -> tuple[Path, Path]:
    """A certificate as Apple's push certificates are: with the bundle id as UID; and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.USER_ID, uid), x509.NameAttribute(NameOID.COMMON_NAME, f"Push: {uid}")]
    )
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{uid}.pem", folder / f"{uid}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def fingerprint(certificate: Path) -> str:
    first = certificate.read_text().partition("-----END")[0]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f"{first}-----END CERTIFICATE-----")).hexdigest()


async def push(server: Server, files: tuple[Path, Path], number: int) -> None:
    """Send one notification and wait for the end, whoever brings it about."""
    with contextlib.suppress(OSError):
        client = await server.connect(None, *files)
        await asyncio.to_thread(client.send, enhanced(token(number), number))
        await asyncio.to_thread(client.socket.unwrap)


async def test_the_certificate_chooses_the_domain_by_fingerprint_or_uid(gate: Gate, tmp_path: Path) -> None:
    one, other = self_signed(tmp_path), self_signed(tmp_path, "com.example.other")
    both = tmp_path / "both.pem"
    both.write_bytes(one[0].read_bytes() + other[0].read_bytes())
    domains = {UID: "apn.example.com", fingerprint(other[0]): "other.example.com"}
    server = await gate(client_ca=both, domains=domains)
    await push(server, one, 1)
    await server.kept(1)
    await push(server, other, 2)
    await server.kept(2)
    kept = [(deliveries[0].domain, message.envelope.user) for message, deliveries, _ in server.spool.accepted]
    assert kept == [("apn.example.com", UID), ("other.example.com", "com.example.other")]


async def test_a_client_that_no_domain_is_given_to_is_refused_and_recorded(
    gate: Gate, certificates: Certificates
) -> None:
    server = await gate(domains={UID: "apn.example.com"})
    await push(server, (certificates.client, certificates.client_key), 1)
    await server.until(lambda: bool(server.spool.recorded))
    (rejection,) = server.spool.recorded
    assert (rejection.kind, rejection.phase, rejection.code) == (Kind.REJECTION, "TLS", "550")
    assert fingerprint(certificates.client) in rejection.text, "so that it can be copied into the configuration"
    assert server.tokens == []


async def test_a_certificate_of_another_authority_is_refused_and_recorded(gate: Gate, tmp_path: Path) -> None:
    server = await gate()
    await push(server, self_signed(tmp_path), 1)
    await server.until(lambda: bool(server.spool.recorded))
    assert "no certificate of client_ca: self-signed certificate" in server.spool.recorded[0].text
    assert server.tokens == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_without_a_certificate_nobody_comes_in(
    gate: Gate, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server = await gate()
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.minimum_version = context.maximum_version = version
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(*server.gateway, ssl=context, server_hostname="localhost")
        writer.write(enhanced(token(1), 1))
        assert await reader.read() == b""
        writer.close()
    await server.until(lambda: bool(server.spool.recorded))
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in server.spool.recorded[0].text
    assert server.tokens == []


async def test_what_is_no_tls_is_closed(gate: Gate) -> None:
    server = await gate()
    reader, writer = await asyncio.open_connection(*server.gateway)
    writer.write(b"EHLO there\r\n" * 100)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await server.until(lambda: server.doors.sessions == 0)
