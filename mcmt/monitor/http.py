"""A responder for GET and HEAD over HTTP/1.1 (RFC 9112), one request a connection: for scrapers and probes.

It answers three paths on an address of the operator's, so it has no more of HTTP than that. Limits: CLIENTS at a time,
HEAD_LIMIT bytes of request, PATIENCE seconds for it and for the answer to be read. What is not right is answered with
a status that says so, and nothing a client sends is repeated to it; clients past the limit are hung up on.

Rule: a bug in an answer is a 500 and a traceback on standard error, and nothing else ends by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, cast

from mcmt.errors import ListenError

log = logging.getLogger(__name__)

CLIENTS = 16
HEAD_LIMIT = 8 * 1024
"""Bytes of a request's first line and fields."""
PATIENCE = 10.0
"""Seconds that a client may take for its request, and again for the answer."""
LINGER = 1.0
"""Seconds in which what comes after a refused request is read and thrown away."""
DEADLINE = 20.0
"""Seconds that an answer may take to be made."""

# RFC 9112 3: method, target, version. Targets in other forms are for proxies.
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[\x21-\x7e]*) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")


class Reply(NamedTuple):
    """What a path answers."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[], Awaitable[Reply]]


class HttpServer:
    """Answers for *paths* from ``start`` to ``close``."""

    def __init__(self, host: str | None, port: int, paths: Mapping[str, Handler]) -> None:
        """*host* None: every address; *port* 0: chosen by the system, for tests."""
        self._host = host
        self._port = port
        self._paths = {path.encode(): handler for path, handler in paths.items()}
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen. Raises ListenError naming the address."""
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=HEAD_LIMIT)
        except OSError as error:
            raise ListenError(
                f"monitor.listen: {self._host or ''}:{self._port} cannot be listened on: {error.strerror or error}; "
                "stop what listens there, or name another address"
            ) from error

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Host and port of every socket."""
        sockets = self._server.sockets if self._server is not None else ()
        return [listening.getsockname()[:2] for listening in sockets]

    async def close(self) -> None:
        """Stop listening, and hang up."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._clients.add(task)
        try:
            if len(self._clients) > CLIENTS:
                writer.transport.abort()
                return
            reply, bare = await self._answer(reader)
            writer.write(_encode(reply, bare=bare))
            async with asyncio.timeout(PATIENCE):
                await writer.drain()
                if reply.status >= HTTPStatus.BAD_REQUEST:
                    await _linger(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # A cancellation ends here: asyncio's streams would report a cancelled task as a bug.
            writer.transport.abort()
        finally:
            self._clients.discard(task)

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[Reply, bool]:
        """The reply, and whether it goes without its body."""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), False
        except TimeoutError:
            return _plain(HTTPStatus.REQUEST_TIMEOUT), False
        first, *lines = head[:-4].split(b"\r\n")
        request = _REQUEST.fullmatch(first)
        fields = [_FIELD.fullmatch(line) for line in lines]
        if request is None or None in fields:
            return _plain(HTTPStatus.BAD_REQUEST), False
        names = [field[1].lower() for field in fields if field is not None]
        # RFC 9112 3.2: a request of HTTP/1.1 has one Host field, and no more. A body has no meaning here.
        hosts = names.count(b"host")
        if hosts > 1 or (request[3] == b"1" and not hosts) or b"transfer-encoding" in names:
            return _plain(HTTPStatus.BAD_REQUEST), False
        handler = self._paths.get(request[2].partition(b"?")[0])
        if handler is None:
            return _plain(HTTPStatus.NOT_FOUND), request[1] == b"HEAD"
        if request[1] not in (b"GET", b"HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED), False
        return await _handled(handler), request[1] == b"HEAD"


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # RFC 9112 9.6: closed with bytes unread, the connection is reset, and the client may never see the answer.
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while await reader.read(HEAD_LIMIT):
                pass


async def _handled(handler: Handler) -> Reply:
    try:
        async with asyncio.timeout(DEADLINE):
            return await handler()
    except TimeoutError:
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE)
    except Exception:
        log.exception("a request to monitor.listen could not be answered")
        return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)


def _plain(status: HTTPStatus) -> Reply:
    return Reply(status, f"{status.value} {status.phrase}\n".encode())


def _encode(reply: Reply, *, bare: bool) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if reply.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n{allow}"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if bare else reply.body)
