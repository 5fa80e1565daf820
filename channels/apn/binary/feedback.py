"""The feedback service as its client: read to its end, and let go of when everything is on disk.

Source: Apple, "The Feedback Service" (Binary Provider API): TLS with the app's certificate, tuples until the service
closes; what was read is not told again.

Rules: nothing is read ahead of what was written down, so a service that tells much waits for our disk. Until the end
the connection would be reset, and not closed, however this process ends: so a service that looks sees that its list was
not taken. TLS is done here (ssl.MemoryBIO), because asyncio closes a connection as soon as the peer has ended it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from functools import partial
from struct import pack
from typing import TypeVar

from mcmt.channel.lookup import words_of
from mcmt.channel.port import Feedback, Told
from mcmt.errors import ConnectError, RouteFaultError
from mcmt.message.route import Route
from mcmt.wire.apns_binary import FeedbackParser

from ..options import Options
from ..transport import prepared_context, reach, refused_certificate

DEFAULT_PORT = 2196
SILENCE = 60.0
"""Seconds that the service may take for its next bytes, and for the whole of the handshake."""
_READ = 64 * 1024
_RESET = pack("ii", 1, 0)  # socket(7), SO_LINGER
_CLOSE = pack("ii", 0, 0)

T = TypeVar("T")


def feedback(options: Options) -> Feedback | None:
    """See mcmt.channel.port.Feedback."""
    if options.feedback is None:
        return None
    route = options.feedback.route
    return Feedback(str(route), options.feedback.interval, partial(read_feedback, route, options))


async def read_feedback(route: Route, options: Options, told: Told, silence: float = SILENCE) -> None:
    """See Feedback.read."""
    context = await prepared_context(options)
    try:
        async with asyncio.timeout(silence):
            stream = await reach(route.host, route.port or DEFAULT_PORT, partial(_Stream.open, context, route.host))
    except TimeoutError:
        raise ConnectError(f"{route.host}: no connection within {silence:g} s") from None
    parser, count = FeedbackParser(), 0
    try:
        while True:
            async with asyncio.timeout(silence):
                data = await stream.read()
            if not data:
                break
            if tuples := parser.receive(data):
                await told([(each.token.hex(), float(each.time)) for each in tuples])
                count += len(tuples)
        if parser.begun:
            raise ConnectError(f"{route.host} ended in the middle of a tuple, after {count} tokens")
        await stream.end()
    except TimeoutError:
        raise ConnectError(f"{route.host} was silent for {silence:g} s, after {count} tokens") from None
    except OSError as error:  # ssl.SSLError is one
        if refusal := refused_certificate(error):
            raise RouteFaultError(f"{route.host} refuses the client certificate: {refusal}") from error
        raise ConnectError(f"{route.host}: {words_of(error)}, after {count} tokens") from error
    finally:
        stream.close()


class _Stream:
    """TLS on a connected socket, as a client that only reads."""

    def __init__(self, context: ssl.SSLContext, host: str, raw: socket.socket) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    @classmethod
    async def open(cls, context: ssl.SSLContext, host: str, raw: socket.socket) -> _Stream:
        """Shake hands. Raises OSError."""
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        stream = cls(context, host, raw)
        while True:
            try:
                stream._tls.do_handshake()
            except ssl.SSLWantReadError:
                await stream._send()
            except ssl.SSLError:
                await stream._send()  # the alert that says why
                raise
            else:
                await stream._send()
                return stream
            if not await stream._receive():
                raise ConnectError("closed during the TLS handshake")

    async def read(self) -> bytes:
        """What came next; nothing at the end, whether the peer said goodbye or just closed. Raises OSError."""
        while True:
            try:
                return self._tls.read(_READ)
            except ssl.SSLWantReadError:
                await self._send()
            if not await self._receive():
                return b""

    async def end(self) -> None:
        """Say goodbye, as one who has everything: ``close`` closes now."""
        with contextlib.suppress(OSError):  # that the peer has not said goodbye, or is gone
            try:
                self._tls.unwrap()
            finally:
                await self._send()
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE)

    def close(self) -> None:
        """Close; before ``end`` that is a reset."""
        self._raw.close()

    async def _receive(self) -> bool:
        data = await asyncio.get_running_loop().sock_recv(self._raw, _READ)
        self._incoming.write(data)
        return bool(data)

    async def _send(self) -> None:
        if data := self._outgoing.read():
            await asyncio.get_running_loop().sock_sendall(self._raw, data)
