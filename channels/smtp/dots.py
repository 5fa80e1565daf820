"""Transparency (RFC 5321 4.5.2)."""

from __future__ import annotations


def stuff(data: bytes) -> bytes:
    """*data*, lines of CR LF, as it stands between 354 and the reply: dots doubled, the final dot behind it."""
    if b"\r\n." in data:
        data = data.replace(b"\r\n.", b"\r\n..")
    return b"".join([b"." if data.startswith(b".") else b"", data, b".\r\n"])
