"""The X.509 extension in which Apple lists the topics of a push certificate, read and written.

OID 1.2.840.113635.100.6.3.6. Its value is a DER SEQUENCE of pairs: UTF8String topic, SEQUENCE of
UTF8String kinds (``app``, ``voip``, ``complication``). Only that shape is read here, no other DER.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography import x509

TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
DEVELOPMENT = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
PRODUCTION = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")

_SEQUENCE = 0x30
_UTF8 = 0x0C


def encode_topics(topics: Sequence[tuple[str, str]]) -> bytes:
    """The extension's value for pairs of topic and kind."""
    return _element(
        _SEQUENCE,
        b"".join(
            _element(_UTF8, topic.encode()) + _element(_SEQUENCE, _element(_UTF8, kind.encode()))
            for topic, kind in topics
        ),
    )


def decode_topics(value: bytes) -> tuple[str, ...]:
    """The topics that the extension's value lists. Raises ValueError where it has another shape."""
    ((tag, content),) = _elements(value)
    if tag != _SEQUENCE:
        raise ValueError("not a DER SEQUENCE")
    return tuple(item.decode() for kind, item in _elements(content) if kind == _UTF8)


def certificate_topics(certificate: x509.Certificate) -> tuple[str, ...]:
    """What *certificate* may push to: its extension's topics, else the UID of its subject, else nothing."""
    try:
        extension = certificate.extensions.get_extension_for_oid(TOPICS).value
    except x509.ExtensionNotFound:
        uids = certificate.subject.get_attributes_for_oid(x509.NameOID.USER_ID)
        return tuple(str(uid.value) for uid in uids)
    try:
        return decode_topics(extension.value) if isinstance(extension, x509.UnrecognizedExtension) else ()
    except ValueError:
        return ()


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if len(data) < at + 2:
            raise ValueError("cut DER")
        tag, size = data[at], data[at + 1]
        at += 2
        if size >= 0x80:
            octets = size & 0x7F
            size = int.from_bytes(data[at : at + octets], "big")
            at += octets
        if at + size > len(data):
            raise ValueError("cut DER")
        yield tag, data[at : at + size]
        at += size
