"""Requests of HTTP/1.1 as old clients make them (RFC 9112), read without I/O; and responses written.

Bodies have a Content-Length: what comes in chunks is answered 411, as RFC 9112 6.3 allows. A body's length is judged
before an octet of it is kept. Whatever could be read in two ways is refused, and nothing behind it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import msgspec

HEAD: Final = 16 * 1024
"""Octets of a request's first line and fields."""

# RFC 9112 3: method, target, version. An absolute target is what clients send to proxies.
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
_is_length = re.compile(r"[0-9]{1,15}").fullmatch


class Request(msgspec.Struct, frozen=True):
    """One request, whole."""

    method: str
    path: str
    """Of the target, without the query."""
    fields: Mapping[str, str]
    """By name in lower case."""
    body: bytes
    keep_alive: bool
    """The client may make another on this connection."""


class Refusal(msgspec.Struct, frozen=True):
    """What cannot be read: the connection ends with this status."""

    status: HTTPStatus
    text: str


class RequestParser:
    """Reads one connection's requests, one after the other."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str], bool] | None = None
        self._length = 0
        self.refusal: Refusal | None = None
        """Why nothing is read any more."""
        self.continues = False
        """The client waits to be told 100 Continue before it sends the body (RFC 9110 10.1.1); for the caller to
        clear."""

    @property
    def held(self) -> int:
        """Octets that have come and belong to no request that was returned."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """More octets."""
        self._buffer += data

    def take(self) -> Request | None:
        """The next request that has come whole; None: there is none yet, or ``refusal`` says why there never will."""
        if self.refusal is not None or (self._head is None and not self._read_head()):
            return None
        if len(self._buffer) < self._length or self._head is None:
            return None
        method, path, fields, keep_alive = self._head
        body = bytes(self._buffer[: self._length])
        del self._buffer[: self._length]
        self._head, self.continues = None, False
        return Request(method, path, fields, body, keep_alive)

    def _read_head(self) -> bool:
        # RFC 9112 2.2: empty lines before a request are ignored.
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD)
        if end < 0:
            if len(self._buffer) >= HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head is larger than {HEAD} bytes")
            return False
        first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        request = _REQUEST.fullmatch(first)
        fields = _read_fields(lines)
        if request is None or fields is None:
            return self._refuse(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
        # RFC 9112 6.1 and 6.3: who sends both, or two lengths, may be smuggling.
        if "transfer-encoding" in fields:
            return self._refuse(HTTPStatus.LENGTH_REQUIRED, "send the body with Content-Length")
        length = fields.get("content-length", "0")
        if not _is_length(length):
            return self._refuse(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        self._length = int(length)
        if self._length > self._max_body:
            text = f"the body is larger than {self._max_body} bytes (max_message_size)"
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        options = {option.strip() for option in fields.get("connection", "").lower().split(",")}
        keep_alive = "close" not in options if request[3] == b"1" else "keep-alive" in options
        path = request[2].decode("ascii").partition("?")[0]
        if not path.startswith("/"):
            path = "/" + path.partition("://")[2].partition("/")[2]
        self._head = request[1].decode("ascii"), path, fields, keep_alive
        self.continues = fields.get("expect", "").lower() == "100-continue"
        return True

    def _refuse(self, status: HTTPStatus, text: str) -> bool:
        self.refusal = Refusal(status, text)
        self._buffer.clear()
        return False


def _read_fields(lines: Sequence[bytes]) -> dict[str, str] | None:
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1").strip()
        if name in fields and name in ("content-length", "host", "transfer-encoding"):
            return None
        fields[name] = value
    return fields


class Response(msgspec.Struct, frozen=True):
    """What a request is answered with."""

    status: HTTPStatus
    body: bytes
    content_type: str
    more: tuple[tuple[str, str], ...] = ()
    """Further header fields."""

    def encode(self, *, keep_alive: bool) -> bytes:
        """Its octets."""
        fields = "".join([f"{name}: {value}\r\n" for name, value in self.more])
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n{fields}"
            f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
        )
        return head.encode("latin-1") + self.body
