"""Certificates, keys and authorities from their files. What cannot be used is a RouteFaultError that says why."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from mcmt.errors import RouteFaultError


def client_context(verify: str, authorities: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later; *verify* is ``no``, ``ca`` or ``host``. Raises RouteFaultError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = verify == "host"
    context.verify_mode = ssl.CERT_NONE if verify == "no" else ssl.CERT_REQUIRED
    if verify != "no":
        if authorities is not None:
            _load_authorities(context, authorities)
        else:
            context.load_default_certs()
    if certificate is not None:
        _load_certificate(context, certificate, key)
    return context


def load_authorities(file: Path) -> None:
    """Raises RouteFaultError where *file* has no certificates in PEM."""
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file)


def load_certificate(certificate: Path, key: Path | None) -> None:
    """Raises RouteFaultError where the certificate and its key cannot be used together."""
    _load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key)


def expires(certificate: Path) -> float:
    """When the first certificate of the file ends, seconds since the epoch. Raises RouteFaultError."""
    try:
        first = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise RouteFaultError(f"{certificate} cannot be read: {error}") from None
    return first.not_valid_after_utc.timestamp()


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise RouteFaultError(f"{file} has no certificates in PEM") from None
    except OSError as error:
        raise RouteFaultError(f"{file} cannot be read: {error.strerror}") from None


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    # Opened here first, since OpenSSL does not say which of the two it could not.
    for file in (certificate, key or certificate):
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            raise RouteFaultError(f"{file} cannot be read: {error.strerror}") from None
    try:
        # An empty passphrase, or OpenSSL would ask at the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        files = f"{certificate} and {key}" if key else str(certificate)
        raise RouteFaultError(
            f"{files} cannot be used: expected a certificate and its key in PEM, without a passphrase ({error})"
        ) from None
