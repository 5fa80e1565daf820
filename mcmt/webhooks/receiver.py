"""The receiver's end of one webhook: requests of HTTP/1.1 over one connection that is kept while it may be.

Rules: the certificate is verified by authority and by name; nothing of the environment (proxies) is used; redirects
are not followed; of the answer the status and ``Retry-After`` are read, and of the body no more than KEPT octets, which
are thrown away. Never raises but for cancellation: what went wrong is an Answer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import mcmt
from mcmt.clock import Clock
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.errors import ProtocolError
from mcmt.webhooks.answers import Answer, retry_after
from mcmt.wire.http1_response import HEAD, ResponseHead, read_head

KEPT: Final = 64 * 1024
"""Octets of a body that are read so that the connection can be used again."""
_INTERIM = 8
"""Answers 1xx that may come before the final one."""

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Receiver:
    """One URL."""

    def __init__(self, settings: WebhookSettings, clock: Clock) -> None:
        parts = urlsplit(settings.url)
        self._tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._authority = parts.netloc
        self._ca = settings.tls_ca
        self._timeout = settings.timeout
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._streams: _Streams | None = None

    async def post(self, body: bytes, fields: Mapping[str, str]) -> Answer:
        """Send *body*, and say what came of it."""
        head: ResponseHead | None = None
        try:
            async with asyncio.timeout(self._timeout):
                head = await self._post(self._request(body, fields))
                await self._read_past(head)
        except (OSError, ProtocolError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            self.close()
            # The status is the answer, whatever becomes of what follows it.
            if head is None:
                late = isinstance(error, TimeoutError)
                return Answer(0, f"no answer within {self._timeout:g} s" if late else _why(error))
        except BaseException:
            self.close()
            raise
        return Answer(
            head.status,
            f"answered {head.status}",
            retry_after(head.fields.get("retry-after", ""), self._clock.time()),
        )

    def close(self) -> None:
        """Let go of the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    def _request(self, body: bytes, fields: Mapping[str, str]) -> bytes:
        head = {
            "Host": self._authority,
            "User-Agent": f"mcmt/{mcmt.__version__}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **fields,
        }
        lines = [f"POST {self._target} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        return "\r\n".join(lines).encode("ascii") + body

    async def _post(self, request: bytes) -> ResponseHead:
        if self._streams is not None and not await _is_silent(self._streams[0]):
            self.close()
        if self._streams is not None:
            try:
                return await self._exchange(self._streams, request)
            except (ConnectionError, asyncio.IncompleteReadError):
                # It was kept, and the receiver may have closed it in the meantime: that is no failure yet.
                self.close()
        self._streams = await self._connect()
        return await self._exchange(self._streams, request)

    async def _connect(self) -> _Streams:
        if self._tls and self._context is None:
            self._context = await asyncio.to_thread(self._verifying)
        return await asyncio.open_connection(
            self.host,
            self._port,
            limit=HEAD,
            ssl=self._context,
            server_hostname=self.host if self._tls else None,
        )

    def _verifying(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def _exchange(self, streams: _Streams, request: bytes) -> ResponseHead:
        reader, writer = streams
        writer.write(request)
        await writer.drain()
        for _ in range(_INTERIM):
            head = read_head(await reader.readuntil(b"\r\n\r\n"))
            if head.status >= 200:
                break
        else:
            raise ProtocolError("nothing but interim responses came")
        return head

    async def _read_past(self, head: ResponseHead) -> None:
        """Be at the end of the answer, or let go of the connection."""
        if self._streams is not None and head.keep_alive and head.length is not None and head.length <= KEPT:
            await self._streams[0].readexactly(head.length)
        else:
            self.close()


async def _is_silent(reader: asyncio.StreamReader) -> bool:
    """Whether the receiver has said nothing since its last answer, and has not closed. What it said before the request
    would be taken for the answer, and the events for taken."""
    try:
        async with asyncio.timeout(0):
            await reader.read(1)
    except TimeoutError:
        return True
    except OSError:
        pass
    return False


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    if isinstance(error, asyncio.IncompleteReadError):
        return "closed the connection without an answer"
    if isinstance(error, asyncio.LimitOverrunError):
        return f"sent an answer whose head is larger than {HEAD} bytes"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error)
