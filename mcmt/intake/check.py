"""What ``mcmt check`` says about the files that a listening address names: certificate, key, users, authorities.

The engine is not needed for it, and nothing is changed. Never raises: what is wrong is a Finding.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mcmt.channel.port import Finding, exposure
from mcmt.clock import Clock, SystemClock
from mcmt.config.settings import GatewaySettings, HttpAddressSettings, ListenSettings
from mcmt.intake.tls import CertificateFiles, reason_of
from mcmt.intake.users import UsersError, read_users

_WARN_DAYS: Final = 30


def check_listen(listen: ListenSettings, clock: Clock | None = None) -> Sequence[Finding]:
    """What was found in the files that *listen* names."""
    now = (clock or SystemClock()).time()
    certificate = () if listen.tls_certificate is None else _certificate(listen.tls_certificate, listen.tls_key, now)
    return (*certificate, *_users(listen))


def check_gateway(gateway: GatewaySettings, clock: Clock | None = None) -> Sequence[Finding]:
    """What was found in the files that *gateway* names."""
    now = (clock or SystemClock()).time()
    return (*_certificate(gateway.tls_certificate, gateway.tls_key, now), *_authorities(gateway.client_ca))


def check_http(address: HttpAddressSettings, clock: Clock | None = None) -> Sequence[Finding]:
    """What was found in the files that *address* names."""
    now = (clock or SystemClock()).time()
    certificate = address.tls_certificate
    return () if certificate is None else tuple(_certificate(certificate, address.tls_key, now))


def _authorities(file: Path) -> Iterator[Finding]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        file.open("rb").close()
        context.load_verify_locations(file)
    except (OSError, ssl.SSLError) as error:
        yield Finding("client_ca", f"{file} cannot be used: {reason_of(error)}", fault=True)
        return
    count = len(context.get_ca_certs()) or context.cert_store_stats()["x509"]
    yield Finding("client_ca", "clients of 1 certificate" if count == 1 else f"clients of {count} certificates")


def _certificate(tls_certificate: Path, tls_key: Path | None, now: float) -> Iterator[Finding]:
    holder = tls_key or tls_certificate
    for option, file in (("tls_certificate", tls_certificate), ("tls_key", holder)):
        try:
            file.open("rb").close()
        except OSError as error:
            yield Finding(option, f"{file} cannot be read: {error.strerror}", fault=True)
            return
    try:
        CertificateFiles(tls_certificate, tls_key)
    except (OSError, ssl.SSLError) as error:
        text = f"{tls_certificate} and the key in {holder} cannot be used: {reason_of(error)}"
        yield Finding("tls_certificate", text, fault=True)
        return
    # Here and not above: a large import that only a certificate needs.
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    certificate = x509.load_pem_x509_certificates(tls_certificate.read_bytes())[0]
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    subject = str(common[0].value) if common else certificate.subject.rfc4514_string() or "nobody"
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = ", ".join(map(str, alternatives.get_values_for_type(x509.DNSName)))
    except (x509.ExtensionNotFound, ValueError):
        names = ""
    end = certificate.not_valid_after_utc.timestamp()
    days = (end - now) / 86400
    until = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d")
    left = f"{days:.0f} days left" if days >= 0 else f"expired {-days:.0f} days ago"
    yield Finding(
        "tls_certificate", f"certificate of {subject}{names and f' for {names}'}; valid until {until}, {left}"
    )
    if now < certificate.not_valid_before_utc.timestamp():
        yield _warning("tls_certificate", "is not valid yet, and clients may refuse it; compare this machine's clock")
    elif days < 0:
        yield _warning("tls_certificate", "has expired, and clients may refuse it; have a new one made")
    elif days < _WARN_DAYS:
        yield _warning("tls_certificate", f"expires in {days:.0f} days; have a new one made")
    yield from exposure("tls_key" if tls_key else "tls_certificate", holder)


def _users(listen: ListenSettings) -> Iterator[Finding]:
    if listen.users_file is None:
        return
    try:
        count = len(read_users(listen.users_file))
        exposed = exposure("users_file", listen.users_file)
    except (UsersError, OSError) as error:
        yield Finding("users_file", str(error), fault=True)
        return
    yield Finding("users_file", "1 user" if count == 1 else f"{count} users")
    if not count:
        yield _warning("users_file", f"{listen.users_file} has no users; add one with: mcmt passwd NAME")
    yield from exposed


def _warning(option: str, text: str) -> Finding:
    return Finding(option, text, warning=True)
