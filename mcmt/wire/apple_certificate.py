"""What Apple writes into a push certificate: topics and environments. Pure.

Source: the extensions below 1.2.840.113635.100.6.3 of the certificates that Apple issues (Certificate Transparency has
them all), and the UID of their subjects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

_TOPICS: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
_ENVIRONMENTS: Final = (
    (x509.ObjectIdentifier("1.2.840.113635.100.6.3.1"), "sandbox"),
    (x509.ObjectIdentifier("1.2.840.113635.100.6.3.2"), "production"),
)
_SEQUENCE = 0x30
_UTF8_STRING = 0x0C


def certificate_topics(certificate: x509.Certificate) -> tuple[str, ...]:
    """What a certificate may push to: the topics of Apple's extension, else the UID of its subject, else nothing.

    The extension is a DER SEQUENCE of pairs: UTF8String topic, SEQUENCE of the topic's kinds.
    """
    value = _extension(certificate, _TOPICS)
    if value is not None:
        try:
            ((tag, content),) = _elements(value)
            if tag == _SEQUENCE:
                return tuple(item.decode() for tag, item in _elements(content) if tag == _UTF8_STRING)
        except ValueError:
            pass
    return certificate_uids(certificate)


def certificate_uids(certificate: x509.Certificate) -> tuple[str, ...]:
    """The UIDs of its subject: Apple writes one, the bundle id of the app that it is for."""
    return tuple(str(uid.value) for uid in certificate.subject.get_attributes_for_oid(NameOID.USER_ID))


def certificate_environments(certificate: x509.Certificate) -> tuple[str, ...]:
    """``sandbox``, ``production``, or both; none where Apple's extensions are not in it."""
    return tuple(name for oid, name in _ENVIRONMENTS if _extension(certificate, oid) is not None)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of DER *data* on its first level. Raises ValueError where it is cut."""
    at = 0
    while at < len(data):
        tag, length = data[at], int.from_bytes(data[at + 1 : at + 2], "big")
        at += 2
        if length >= 0x80:
            octets = length & 0x7F
            length = int.from_bytes(data[at : at + octets], "big")
            at += octets
        if at + length > len(data):
            raise ValueError("cut DER")
        yield tag, data[at : at + length]
        at += length


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None
