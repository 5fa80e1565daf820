"""One request on its way in, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Iterable

from mcmt.clock import Timer
from mcmt.simulator.request import MAX_VOIP_PAYLOAD, Request

MAX_BODY = 65_536
"""Octets after which the rest of a body is not waited for."""
_KEEP = MAX_VOIP_PAYLOAD + 1


class Stream:
    """An open stream, from its HEADERS until its answer is written."""

    __slots__ = ("_chunks", "_request", "apns_id", "duplicates", "headers", "size", "timer")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], new_id: str) -> None:
        self.headers: dict[str, str] = {}
        duplicates: set[str] = set()
        # Latin-1: every octet has a character, so nothing a client sends fails to decode.
        for raw, value in headers:
            name = raw.decode("latin-1")
            if name in self.headers:
                duplicates.add(name)
            self.headers[name] = value.decode("latin-1")
        self.duplicates = frozenset(duplicates)
        self.apns_id = new_id
        """What the answer carries."""
        self.size = 0
        self.timer: Timer | None = None
        self._chunks: list[bytes] = []
        self._request: Request | None = None

    def feed(self, data: bytes) -> None:
        """Take a piece of the body; what is beyond any limit is counted and dropped."""
        if self.size < _KEEP:
            self._chunks.append(data)
        self.size += len(data)

    def close(self) -> Request:
        """The request, whole; the same one each time."""
        if self._request is None:
            chunks = self._chunks
            payload = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._request = Request(self.headers, self.duplicates, payload, self.size)
            self._chunks = []
        return self._request

    @property
    def complete(self) -> bool:
        """Whether the request is whole, so that it was decided on."""
        return self._request is not None
