"""A sender of Apple's binary protocol as people wrote them: blocking, over the standard library's TLS, frames by hand.

Nothing of mcmt is in it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PAYLOAD = b'{"aps":{"alert":"Hello world."}}'
# From Apple's protocol and the Erlang snippet of a blog post of 2014, its X's replaced by digits.
ERLANG_TOKEN = "ff496f96352abb7c875bedfc755287000000e14bfadade9ff6ba75360de65441"
ERLANG_PAYLOAD = b'{"aps":{"alert":"Hello world.","sound":"chime", "badge":1}}'


def simple(token: str, payload: bytes = PAYLOAD) -> bytes:
    """Command 0."""
    raw = bytes.fromhex(token)
    return struct.pack(">BH", 0, len(raw)) + raw + struct.pack(">H", len(payload)) + payload


def enhanced(token: str, identifier: int, payload: bytes = PAYLOAD, expiry: int = 2**31) -> bytes:
    """Command 1."""
    raw = bytes.fromhex(token)
    head = struct.pack(">BIIH", 1, identifier, expiry, len(raw))
    return head + raw + struct.pack(">H", len(payload)) + payload


def items(token: str, identifier: int, payload: bytes = PAYLOAD, priority: int | None = None) -> bytes:
    """Command 2, as node-apn sends it: without what is not set."""
    given = [(1, bytes.fromhex(token)), (2, payload), (3, struct.pack(">I", identifier))]
    if priority is not None:
        given.append((5, bytes((priority,))))
    content = b"".join(struct.pack(">BH", number, len(data)) + data for number, data in given)
    return struct.pack(">BI", 2, len(content)) + content


def token(number: int) -> str:
    return f"{number:064x}"


class Answer(NamedTuple):
    """An error packet."""

    command: int
    status: int
    identifier: int


class OldSender:
    """One connection."""

    def __init__(
        self, address: tuple[str, int], ca: Path, certificate: Path, key: Path, *, receive_buffer: int = 0
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
        self._early = b""
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(10)
        try:
            plain.connect(address)
            self.socket = context.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def push(self, frames: Sequence[bytes]) -> Answer | None:
        """Send *frames* until all are sent or something is answered, then the end, and what was answered."""
        with contextlib.suppress(OSError):
            for at in range(0, len(frames), 200):
                if self._answered():
                    break
                self.send(*frames[at : at + 200])
        with contextlib.suppress(OSError):
            # Of the connection and not of TLS, which ssl's own shutdown would throw away.
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
        return self.answer()

    def _answered(self) -> bool:
        """Something is said, or the end; what TLS says to itself, as session tickets, is neither."""
        if select.select([self.socket], [], [], 0)[0]:
            self.socket.settimeout(0.0)
            try:
                self._early += self.socket.recv(65536)
            except ssl.SSLWantReadError:
                return False
            finally:
                self.socket.settimeout(10)
            return True
        return False

    def rest(self) -> bytes:
        """All that still comes until the other side closes."""
        received, self._early = self._early, b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := self.socket.recv(65536):
                received += data
        return received

    def answer(self) -> Answer | None:
        """The error packet, and then the connection is closed; None when it ends without one."""
        packet = self.rest()
        self.close()
        return Answer(*struct.unpack(">BBI", packet)) if packet else None

    def finish(self) -> None:
        """Say that nothing more comes, as OpenSSL's users do, and close."""
        with contextlib.suppress(OSError):
            self.socket.unwrap()
        self.close()

    def close(self) -> None:
        self.socket.close()


def read_feedback(data: bytes) -> list[tuple[int, str]]:
    """Times and tokens."""
    found = []
    while data:
        time, size = struct.unpack_from(">IH", data)
        found.append((time, data[6 : 6 + size].hex()))
        data = data[6 + size :]
    return found
