"""TLS wherever mcmt speaks it: 1.2 or later, and by default whoever answers is verified, by authority and by name.

The contexts that the product makes, each against a peer of every version in memory.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from channels.apn.options import Options as ApnOptions
from channels.apn.transport import tls_context
from channels.smtp.certificate import client_context
from channels.smtp.options import Options as SmtpOptions
from mcmt.intake.tls import CertificateFiles
from tests.support.tls import Certificates, make_certificates

Make = Callable[[Certificates], ssl.SSLContext]
OLD = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
NEW = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def apn(certificates: Certificates, alpn: tuple[str, ...] = ("h2",)) -> ssl.SSLContext:
    return tls_context(ApnOptions.model_validate({"tls_ca": certificates.ca}), alpn)


def smtp(certificates: Certificates) -> ssl.SSLContext:
    options = SmtpOptions.model_validate({"tls": "must", "tls_ca": certificates.ca})
    return client_context(options.tls_verify, options.tls_ca, None, None)


def smtp_unverified(_: Certificates) -> ssl.SSLContext:
    return client_context("no", None, None, None)


def listener(certificates: Certificates) -> ssl.SSLContext:
    return CertificateFiles(certificates.server, certificates.server_key).context()


def gateway(certificates: Certificates) -> ssl.SSLContext:
    return CertificateFiles(certificates.server, certificates.server_key, certificates.ca).context()


CLIENTS: dict[str, Make] = {
    "apn": apn,
    "apn, binary protocol": lambda certificates: apn(certificates, ()),
    "smtp, tls: must": smtp,
    "smtp, tls: may": smtp_unverified,
}
SERVERS: dict[str, Make] = {"esmtp_listener": listener, "apns_gateway": gateway}


def peer(version: ssl.TLSVersion, certificates: Certificates, *, server: bool) -> ssl.SSLContext:
    """Whoever stands at the other end: of one version, and of no scruples."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    if server:
        context.load_cert_chain(certificates.server, certificates.server_key)
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(certificates.client, certificates.client_key)
    if version in OLD:
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = context.maximum_version = version
    else:
        context.minimum_version = context.maximum_version = version
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> str:
    """The version that both agree on. Raises ssl.SSLError where they do not."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = client.wrap_bio(to_client, to_server, server_hostname=name)
    right = server.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(20):
        for end in (left, right):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
    assert len(done) == 2
    return str(left.version())


@pytest.mark.parametrize("where", CLIENTS)
@pytest.mark.parametrize("version", OLD + NEW, ids=lambda version: version.name)
def test_a_server_of_an_older_version_is_not_spoken_to(
    certificates: Certificates, where: str, version: ssl.TLSVersion
) -> None:
    client, server = CLIENTS[where](certificates), peer(version, certificates, server=True)
    # By our word, not only by the mood of this machine's OpenSSL.
    assert client.minimum_version == ssl.TLSVersion.TLSv1_2
    if version in NEW:
        assert shake_hands(client, server) == version.name.replace("_", ".")
        return
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server)


@pytest.mark.parametrize("where", SERVERS)
@pytest.mark.parametrize("version", OLD + NEW, ids=lambda version: version.name)
def test_a_client_of_an_older_version_is_not_served(
    certificates: Certificates, where: str, version: ssl.TLSVersion
) -> None:
    server, client = SERVERS[where](certificates), peer(version, certificates, server=False)
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2
    if version in NEW:
        assert shake_hands(client, server) == version.name.replace("_", ".")
        return
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server)


@pytest.mark.parametrize("where", [name for name in CLIENTS if name != "smtp, tls: may"])
def test_by_default_a_server_is_verified_by_authority_and_by_name(
    certificates: Certificates, tmp_path: Path, where: str
) -> None:
    """Of ``tls: may``, which goes on in clear where there is no TLS, a name would prove nothing."""
    client = CLIENTS[where](certificates)
    assert (client.check_hostname, client.verify_mode) == (True, ssl.CERT_REQUIRED)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client, peer(ssl.TLSVersion.TLSv1_3, certificates, server=True), "elsewhere.example.com")
    stranger = make_certificates(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        shake_hands(CLIENTS[where](certificates), peer(ssl.TLSVersion.TLSv1_3, stranger, server=True))


def test_a_sender_at_the_gateway_is_verified(certificates: Certificates, tmp_path: Path) -> None:
    stranger = make_certificates(tmp_path)
    server = gateway(certificates)
    assert server.verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        shake_hands(peer(ssl.TLSVersion.TLSv1_3, stranger, server=False), server)
