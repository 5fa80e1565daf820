"""Passwords as they are stored: ``scrypt$<n>$<r>$<p>$<salt>$<hash>``, salt and hash in base64 (RFC 7914).

Pure. Rules: a password is compared in constant time; what scrypt may cost is bounded, since the parameters come out of
a file. Measured on one core: 0.15 s and 16 MB for one password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata
from typing import Final

import msgspec

N: Final = 2**14
R: Final = 8
P: Final = 5
"""OWASP, Password Storage Cheat Sheet: one of the settings of equal strength; this one needs the least memory."""
SALT: Final = 16
HASH: Final = 32
MAX_PASSWORD: Final = 1024
"""Octets of a password."""
_MAX_MEMORY: Final = 256 * 1024**2
_MAX_P: Final = 64

_STORED = re.compile(r"scrypt\$(\d{1,10})\$(\d{1,4})\$(\d{1,4})\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)", re.ASCII)


class StoredPassword(msgspec.Struct, frozen=True):
    """What is known of a password."""

    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(each).decode() for each in (self.salt, self.hash))
        return f"scrypt${self.n}${self.r}${self.p}${salt}${digest}"

    def matches(self, password: str) -> bool:
        """Whether that is the password. Takes as long for a wrong one as for the right one."""
        return hmac.compare_digest(_scrypt(password, self.salt, self.n, self.r, self.p, len(self.hash)), self.hash)


def store(password: str, salt: bytes) -> StoredPassword:
    """*password* as it is stored. *salt* is SALT random octets. Raises ValueError: it cannot be a password."""
    prepared = prepare(password)
    return StoredPassword(N, R, P, salt, _scrypt(prepared, salt, N, R, P, HASH))


def parse(text: str) -> StoredPassword:
    """What ``str`` made. Raises ValueError."""
    match = _STORED.fullmatch(text)
    if match is None:
        raise ValueError("expected scrypt$n$r$p$salt$hash, as mcmt passwd writes it")
    n, r, p = int(match[1]), int(match[2]), int(match[3])
    if n < 2 or n & (n - 1) or not r or not 0 < p <= _MAX_P or 128 * n * r > _MAX_MEMORY:
        raise ValueError("scrypt with these parameters is not possible, or costs more than a login may")
    try:
        salt, digest = (base64.b64decode(match[index], validate=True) for index in (4, 5))
    except binascii.Error:
        raise ValueError("salt and hash are not base64") from None
    if len(digest) < SALT:
        raise ValueError("the hash is too short")
    return StoredPassword(n, r, p, salt, digest)


def prepare(password: str) -> str:
    """*password* in the form in which it is compared: SASLprep (RFC 4013), as PLAIN asks for (RFC 4616 2).

    Raises ValueError: it is empty, too long, or has control characters.
    """
    if not password.isascii():
        mapped = [
            " " if stringprep.in_table_c12(each) else each for each in password if not stringprep.in_table_b1(each)
        ]
        password = unicodedata.normalize("NFKC", "".join(mapped))
    if not password:
        raise ValueError("a password cannot be empty")
    if len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD:
        raise ValueError(f"a password has at most {MAX_PASSWORD} octets")
    if any(unicodedata.category(each) in ("Cc", "Cs") for each in password):
        raise ValueError("a password cannot have control characters")
    return password


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int, length: int) -> bytes:
    # OpenSSL counts 128 * r * (n + p) and some; its default limit is 32 MB.
    memory = 128 * r * (n + p) + 1024**2
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=length)
