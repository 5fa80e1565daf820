"""From a route to a session that is ready: look-up, TCP, greeting, EHLO, STARTTLS.

Every failure leaves here as ConnectError, or as RouteFaultError where another try cannot help: a client certificate
that cannot be loaded, or one that the server refuses.

``tls: may`` never costs a delivery: a server whose TLS does not work is asked again, over a new connection, in clear.
In the middle of a session nothing falls back.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from mcmt.channel.lookup import look_up, words_of
from mcmt.channel.port import Report
from mcmt.clock import Clock
from mcmt.errors import ConnectError, RouteFaultError
from mcmt.message.route import Route

from .certificate import client_context
from .connection import SmtpConnection
from .extensions import NONE, Extensions, read_extensions
from .options import Options
from .replies import Reply

DEFAULT_PORT = 25
HANDSHAKE_TIMEOUT = 4.0
"""Seconds that TLS may take where it may be done without; well below connect_timeout, or there is no second try."""
_NEVER = 3600.0

_REFUSED_CERTIFICATE = (
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
"""TLS alerts (RFC 8446 6.2) by which a server refuses our certificate, as OpenSSL names them."""


class _TlsFailedError(ConnectError):
    """Only TLS failed."""


async def open_session(route: Route, options: Options, report: Report, clock: Clock) -> SmtpConnection:
    """A session on the first address of *route* that gives one. Raises ConnectError or RouteFaultError."""
    # Reading certificates and asking for our own name take time: not on the event loop.
    context = await asyncio.to_thread(_context, options)
    name = options.helo_name
    if name is None:
        name = await asyncio.to_thread(socket.getfqdn)
    port = route.port or DEFAULT_PORT
    failures: list[str] = []
    for family, address in await look_up(route.host, port):
        opening = _Opening(route.host, options, report, clock, name)
        try:
            try:
                return await opening.open(family, address, context)
            except _TlsFailedError:
                if options.tls == "must":
                    raise
                return await opening.open(family, address, None)
        except ConnectError as error:
            failures.append(str(error) if address[0] == route.host else f"{address[0]}: {error}")
    raise ConnectError(f"{route.host}:{port}: " + "; ".join(failures))


def _context(options: Options) -> ssl.SSLContext | None:
    if options.tls == "no":
        return None
    verify = options.tls_verify if options.tls == "must" else "no"
    return client_context(verify, options.tls_ca, options.tls_certificate, options.tls_key)


class _Opening:
    """One address of a route."""

    def __init__(self, host: str, options: Options, report: Report, clock: Clock, name: str) -> None:
        self._host = host
        self._options = options
        self._report = report
        self._clock = clock
        self._name = name

    async def open(self, family: int, address: tuple[str, int], context: ssl.SSLContext | None) -> SmtpConnection:
        """Connect and greet; *context*: with TLS if it is offered. Raises ConnectError, RouteFaultError."""
        connection = await self._connect(family, address)
        try:
            _expect(await connection.reply(), "the greeting was")
            name = self._our_name(connection)
            extensions = await _hello(connection, name)
            if context is not None and extensions.starttls:
                extensions = await self._start_tls(connection, context, name, extensions)
            elif self._options.tls == "must":
                raise ConnectError("the server does not offer STARTTLS, and tls is must")
            connection.opened(name, extensions)
        except BaseException:
            connection.discard()
            raise
        return connection

    async def _connect(self, family: int, address: tuple[str, int]) -> SmtpConnection:
        raw = socket.socket(family, socket.SOCK_STREAM)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(raw, address)
            _, connection = await loop.create_connection(
                lambda: SmtpConnection(self._options, self._report, self._clock), sock=raw
            )
        except OSError as error:
            raw.close()
            raise ConnectError(words_of(error)) from error
        except BaseException:
            raw.close()
            raise
        return connection

    def _our_name(self, connection: SmtpConnection) -> str:
        """RFC 5321 4.1.4: an address literal where the machine has no name that means something elsewhere."""
        if self._options.helo_name or "." in self._name:
            return self._name
        address = connection.transport.get_extra_info("sockname")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    async def _start_tls(
        self, connection: SmtpConnection, context: ssl.SSLContext, name: str, in_clear: Extensions
    ) -> Extensions:
        """RFC 3207 4. What was said before TLS is forgotten."""
        must = self._options.tls == "must"
        reply = await connection.ask("STARTTLS")
        if reply.code != 220:
            if must:
                raise ConnectError(f"STARTTLS was answered {reply}, and tls is must")
            return in_clear
        try:
            # Whatever stands behind the reply came in clear, from whoever could write there.
            if not connection.silent:
                raise ConnectError("the server spoke in clear after its reply to STARTTLS")
            await self._handshake(connection, context, _NEVER if must else HANDSHAKE_TIMEOUT)
            return await _hello(connection, name)
        except ConnectError as error:
            if must and (refusal := _refused_certificate(error.__cause__)):
                raise RouteFaultError(f"{self._host} refuses the client certificate: {refusal}") from error
            raise _TlsFailedError(f"TLS failed: {error}") from error

    async def _handshake(self, connection: SmtpConnection, context: ssl.SSLContext, limit: float) -> None:
        try:
            transport = await asyncio.get_running_loop().start_tls(
                connection.transport,
                connection,
                context,
                server_hostname=self._host,
                ssl_handshake_timeout=limit,
            )
        except (OSError, ssl.SSLError) as error:
            raise ConnectError(words_of(error)) from error
        if transport is None:
            raise ConnectError("the server closed the connection")
        connection.secured(transport)


async def _hello(connection: SmtpConnection, name: str) -> Extensions:
    reply = await connection.ask(f"EHLO {name}")
    if reply.positive:
        return read_extensions(reply)
    if reply.code >= 500:
        # RFC 5321 3.2: a server that does not know EHLO may know HELO.
        _expect(await connection.ask(f"HELO {name}"), "HELO was answered")
        return NONE
    raise ConnectError(f"EHLO was answered {reply}")


def _expect(reply: Reply, text: str) -> None:
    if not reply.positive:
        raise ConnectError(f"{text} {reply}")


def _refused_certificate(error: BaseException | None) -> str:
    """The alert's name when *error*, or what is behind it, is the server refusing our certificate."""
    while error is not None:
        reason = str(getattr(error, "reason", "") or "")
        # OpenSSL marks alerts that were received with ALERT; without it the words are our own verdict on the server.
        if (
            isinstance(error, ssl.SSLError)
            and "ALERT" in reason
            and any(each in reason for each in _REFUSED_CERTIFICATE)
        ):
            return reason
        error = error.__cause__
    return ""
