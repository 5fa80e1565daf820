"""The certificate that a client provisions: read, held against its key, its environment and the time, written anew.

What is kept is what was read, written by us: certificates and key, and nothing else that stood around them.

Rules: a path is opened only within the folder that the operator has named for this; no text says what stands in a
file or in a key. Blocking: reading an RSA key takes 30 ms.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mcmt.errors import MessageError
from mcmt.wire.apple_certificate import certificate_environments, certificate_topics, certificate_uids

LARGEST: Final = 64 * 1024
"""Bytes of a PEM text."""
_is_topic = re.compile(r"[A-Za-z0-9.-]{1,255}").fullmatch
_CHAIN: Final = 10
"""Certificates of one PEM text, at most."""


class PushCertificate(msgspec.Struct, frozen=True):
    """A certificate with its key."""

    pem: bytes
    topic: str
    """What it pushes to when nothing else is said: the bundle id of its app."""
    expires: float
    """Seconds since the epoch."""

    @property
    def digest(self) -> str:
        """By which it is told from others."""
        return hashlib.sha256(self.pem).hexdigest()

    def __repr__(self) -> str:  # a key is in it
        return f"PushCertificate({self.topic!r})"


def is_pem(given: str) -> bool:
    """Whether *given* is PEM and no path, as pyapns told one from the other."""
    return "BEGIN CERTIFICATE" in given


def read_push_certificate(given: str, folder: Path | None, environment: str, now: float) -> PushCertificate:
    """What is provisioned for *environment* by *given*: PEM, or the path of such a file in *folder*. Raises
    MessageError."""
    content = given.encode("utf-8", "replace") if is_pem(given) else _content_of(given, folder)
    if len(content) > LARGEST:
        raise _wrong(f"is larger than {LARGEST} bytes")
    try:
        chain = x509.load_pem_x509_certificates(content)[:_CHAIN]
        certificate = chain[0]
    except Exception:  # cryptography has its own exceptions beside ValueError: of versions, kinds of keys, extensions
        raise _wrong("is no certificate in PEM") from None
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise _wrong("has a key that is protected by a passphrase") from None
    except Exception:  # likewise
        raise _wrong("has no private key in PEM beside it") from None
    try:
        ours, theirs = (
            each.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            for each in (key.public_key(), certificate.public_key())
        )
    except Exception:  # likewise
        raise _wrong("has a key that cannot be used") from None
    if ours != theirs:
        raise _wrong("has the key of another certificate beside it")
    try:
        begins, expires = (at.timestamp() for at in (certificate.not_valid_before_utc, certificate.not_valid_after_utc))
        environments = certificate_environments(certificate)
        topics = certificate_uids(certificate) or certificate_topics(certificate)
    except Exception:  # likewise: fields are read only now
        raise _wrong("has fields that cannot be read") from None
    if not begins <= now < expires:
        raise _wrong("has expired" if now >= expires else "is not valid yet")
    if environments and environment not in environments:
        raise _wrong(f"is for {' and '.join(environments)}, not for {environment}")
    if not topics:
        raise _wrong("names no topic: neither a UID of its subject nor Apple's extension")
    if not _is_topic(topics[0]):
        raise _wrong(f"names no topic, but {ascii(topics[0])[:80]}")
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return PushCertificate(pem, topics[0], expires)


def _content_of(path: str, folder: Path | None) -> bytes:
    if folder is None:
        raise _wrong("is the path of a file, and none is opened: set certificate_folder in make_domains, or send PEM")
    try:
        real, within = os.path.realpath(path), os.path.realpath(folder)
        if os.path.commonpath((real, within)) != within:
            raise _wrong("is the path of a file outside of certificate_folder")
        # O_NONBLOCK: a pipe without a writer would hold the reader up. O_NOFOLLOW: the links were followed above.
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _wrong("is the path of something that is no file")
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no path"
        raise _wrong(f"is the path of a file that cannot be read: {why}") from None


def _wrong(text: str) -> MessageError:
    return MessageError(554, "5.7.8", f"the certificate that was provisioned {text}")
