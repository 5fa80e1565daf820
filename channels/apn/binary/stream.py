"""TLS as a client over a TCP transport, which is read to its last byte whatever became of our writes.

A gateway of the binary protocol says what is wrong and closes at once, while we still write. The kernel then refuses
our write, and asyncio, told so, throws away what it has not read: the error packet. So this keeps a second descriptor
of the socket, and when the transport is lost it reads there what the gateway had said before. That is why TLS is done
here (ssl.MemoryBIO) and not by asyncio, whose TLS ends with its transport.

It also knows what of our writing has not reached the gateway's machine, which the owner needs to tell silence from
a line that is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import ssl
import struct
import termios
from typing import Protocol, cast

from mcmt.errors import ConnectError

from ..options import Options
from ..transport import prepared_context, reach

_READ = 64 * 1024
_LAST_READS = 64
"""Reads after the end: the kernel has no more than its receive buffer."""


class StreamOwner(Protocol):
    """Whom a stream tells what happens on it, from the end of the handshake on."""

    def opened(self, stream: TlsStream) -> None:
        """TLS is up."""

    def received(self, data: bytes) -> None:
        """The peer said this."""

    def drained(self) -> None:
        """It may be written again, where ``writable`` was false."""

    def lost(self, error: Exception | None) -> None:
        """The end; nothing comes after it. None: the peer closed, or we did."""


class TlsStream(asyncio.Protocol):
    """One encrypted connection."""

    def __init__(self, context: ssl.SSLContext, host: str, raw: socket.socket, owner: StreamOwner) -> None:
        """*raw*: the connected socket on which the transport will be; if none comes to be, ``abort``."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._second = raw.dup()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._up = False
        self._ended = False  # nothing that comes matters any more
        self._error: Exception | None = None
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the handshake is; else it has the exception."""
        self.writable = True
        self.remote_address = ""

    # -- for the owner --------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send *data*; never blocks."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._flush()

    @property
    def tls(self) -> ssl.SSLObject:
        """What was agreed on in the handshake is known to it."""
        return self._tls

    def unsent(self) -> int:
        """Bytes of ours, encrypted, that the peer's machine has not acknowledged."""
        if self._transport is None or self._transport.is_closing():
            return 0
        waiting = 0
        with contextlib.suppress(OSError):  # a system that does not tell
            # tcp(7), SIOCOUTQ: what is in the send queue and was not acknowledged.
            (waiting,) = struct.unpack("i", fcntl.ioctl(self._second, termios.TIOCOUTQ, bytes(4)))
        return self._transport.get_write_buffer_size() + int(waiting)

    def close(self) -> None:
        """Say goodbye and close when what was written is out."""
        if self._transport is None or self._transport.is_closing():
            return
        with contextlib.suppress(ssl.SSLError):  # that the peer has not said goodbye yet
            self._tls.unwrap()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close now, and hear nothing more."""
        self._ended = True
        if self._transport is None:
            self._second.close()
        else:
            self._transport.abort()

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up: begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        peer = transport.get_extra_info("peername")
        self.remote_address = peer[0] if peer else ""
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Decrypt."""
        self._incoming.write(data)
        if not self._up:
            self._shake_hands()
        if self._up:
            self._read()

    def eof_received(self) -> None:
        """The peer will say nothing more: what we write is for nobody."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The socket does not take more for now."""
        self.writable = False

    def resume_writing(self) -> None:
        """It takes more again."""
        self.writable = True
        self._owner.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Read what the peer had said before, then tell the owner."""
        if not self.established.done():
            self.established.set_exception(self._error or exc or ConnectError("closed during the TLS handshake"))
        if self._up and not self._ended:
            self._read_last()
        self._second.close()
        if self._up:
            self._owner.lost(self._error or exc)

    # -- TLS ------------------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._error = error
            self._flush()  # the alert that says why
            assert self._transport is not None  # noqa: S101 - set before the handshake begins
            self._transport.close()
        else:
            self._flush()
            self._up = True
            self._owner.opened(self)
            if not self.established.done():  # cancelled: nobody waits any more
                self.established.set_result(None)

    def _read(self) -> None:
        while not self._ended:
            try:
                data = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._error = error
                data = b""
            if not data:  # the peer's goodbye, or an alert
                self.eof_received()
                return
            self._owner.received(data)
        self._flush()  # TLS may have answered something itself (RFC 8446 4.6.3)

    def _read_last(self) -> None:
        for _ in range(_LAST_READS):
            try:
                data = self._second.recv(_READ)
            except OSError:
                return
            if not data:
                return
            self._incoming.write(data)
            self._read()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def open_stream(host: str, port: int, options: Options, owner: StreamOwner) -> None:
    """Connect to *host* and hand the stream to *owner*. Raises ConnectError or RouteFaultError."""
    context = await prepared_context(options)

    async def begin(raw: socket.socket) -> None:
        stream = TlsStream(context, host, raw, owner)
        try:
            await asyncio.get_running_loop().create_connection(lambda: stream, sock=raw)
            await stream.established
        except BaseException:
            stream.abort()
            raise

    await reach(host, port, begin)
