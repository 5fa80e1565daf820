"""The server's end of TLS on one connection, without I/O: what came in, what is to be sent out.

asyncio's TLS transports cannot say that they have sent all and read on, which is what keeps an error packet from being
lost: a close in the face of a client that still writes becomes a reset, and the reset destroys what it has yet to read.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

_READ = 64 * 1024


class ServerTls:
    """One connection. Raises ssl.SSLError from ``receive``: nothing more can be read, and ``to_send`` has the alert."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False
        """The handshake is done, and the client's certificate verified."""
        self.ended = False
        """The client has said that it sends nothing more (RFC 8446 6.1, close_notify)."""

    def receive(self, data: bytes) -> bytes:
        """What the client says in *data*."""
        self._incoming.write(data)
        if not self.established:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                return b""
            self.established = True
        said: list[bytes] = []
        while not self.ended:
            try:
                piece = self._ssl.read(_READ)
            except ssl.SSLWantReadError:
                break
            if not piece:
                self.ended = True
            said.append(piece)
        return said[0] if len(said) == 1 else b"".join(said)

    def send(self, data: bytes) -> None:
        """Have *data* sent."""
        self._ssl.write(data)

    def finish(self) -> None:
        """Have it sent that nothing more is sent."""
        # Of a handshake that is not done nothing can be said; and the client's own close_notify is not waited for.
        with contextlib.suppress(ssl.SSLError):
            self._ssl.unwrap()

    def to_send(self) -> bytes:
        """Octets for the client."""
        return self._outgoing.read()

    def certificate(self) -> tuple[bytes, dict[str, Any]]:
        """The client's: as DER, and taken apart by the ssl module."""
        return self._ssl.getpeercert(True) or b"", self._ssl.getpeercert() or {}
