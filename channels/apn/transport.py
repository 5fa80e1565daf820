"""TCP and TLS to a gateway, with a fresh look-up each time and both address families.

Every failure leaves here as ConnectError, or as RouteFaultError where another try cannot help: a client
certificate that cannot be loaded, or one that the gateway refuses.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from mcmt.channel.lookup import look_up, words_of
from mcmt.errors import ConnectError, RouteFaultError

from .options import Options
from .stamps import Stamp, stamp


class Terms(NamedTuple):
    """The options that a TLS context is made of."""

    tls_verify: str
    tls_ca: Path | None
    tls_certificate: Path | None
    tls_key: Path | None


P = TypeVar("P", bound=asyncio.Protocol)
T = TypeVar("T")

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
"""TLS alerts (RFC 8446 6.2) by which a gateway refuses our certificate, as OpenSSL names them."""


async def open_transport(
    host: str, port: int, options: Options, factory: Callable[[], P]
) -> tuple[asyncio.Transport, P]:
    """A TLS transport to *host* for HTTP/2. Raises ConnectError or RouteFaultError."""
    # Absence of ALPN in the answer is accepted later: Apple's gateways have been seen without.
    context = await prepared_context(options, alpn=("h2",))

    async def begin(raw: socket.socket) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, sock=raw, ssl=context, server_hostname=host)

    return await reach(host, port, begin)


async def prepared_context(options: Options, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """See tls_context. Reading certificates and authorities takes tens of milliseconds: not on the event loop."""
    return await asyncio.to_thread(tls_context, options, alpn)


async def reach(host: str, port: int, begin: Callable[[socket.socket], Awaitable[T]]) -> T:
    """What *begin* makes of a socket that is connected to one of *host*'s addresses: the first where it succeeds.

    Raises ConnectError naming what failed at each, or RouteFaultError when one refuses the client certificate.
    """
    failures: list[str] = []
    for family, address in await look_up(host, port):
        raw = socket.socket(family, socket.SOCK_STREAM)
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(raw, address)
            return await begin(raw)
        except (ssl.SSLError, OSError, ConnectError) as error:
            raw.close()
            if refusal := refused_certificate(error):
                raise RouteFaultError(f"{host} refuses the client certificate: {refusal}") from error
            failures.append(words_of(error) if address[0] == host else f"{address[0]}: {words_of(error)}")
        except BaseException:
            raw.close()
            raise
    raise ConnectError(f"{host}:{port}: " + "; ".join(failures))


def tls_context(options: Options, alpn: Sequence[str] = ("h2",)) -> ssl.SSLContext:
    """TLS 1.2 or later, the client certificate if there is one, ALPN if any. Raises RouteFaultError.

    Domains with equal options share it, until one of the files changes: then the next handshake has a new one.
    """
    defaults = ssl.get_default_verify_paths() if options.tls_ca is None else None
    authorities = (defaults.cafile, defaults.capath) if defaults else (options.tls_ca,)
    version = stamp(*authorities, options.tls_certificate, options.tls_key)
    return _tls_context(Terms(**{name: getattr(options, name) for name in Terms._fields}), tuple(alpn), version)


# One with the system's authorities takes 17 ms and 900 KB: with 5,000 domains, 50 certificates and 4 connections each
# it is made 50 times and not 20,000. Bounded, for certificates that are renewed.
@lru_cache(256)
def _tls_context(options: Terms, alpn: tuple[str, ...], version: Stamp) -> ssl.SSLContext:  # noqa: ARG001 - tells versions of the files apart
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    context.check_hostname = options.tls_verify == "host"
    context.verify_mode = ssl.CERT_NONE if options.tls_verify == "no" else ssl.CERT_REQUIRED
    try:
        if options.tls_verify != "no":
            if options.tls_ca is not None:
                context.load_verify_locations(options.tls_ca)
            else:
                context.load_default_certs()
        if options.tls_certificate is not None:
            context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(file) for file in (options.tls_ca, options.tls_certificate, options.tls_key) if file)
        raise RouteFaultError(f"cannot load {files}: {words_of(error)}") from error
    return context


def tls_in_words(tls: ssl.SSLObject) -> str:
    """What was agreed on in the handshake."""
    cipher = tls.cipher()
    return ", ".join(filter(None, (tls.version(), cipher[0] if cipher else "", tls.selected_alpn_protocol())))


def refused_certificate(error: BaseException | None) -> str:
    """The alert's name when *error* is the gateway refusing our certificate; empty otherwise."""
    reason = str(getattr(error, "reason", "") or "")
    # OpenSSL marks alerts that were received with ALERT; the same words without it are our own verdict on the peer.
    if isinstance(error, ssl.SSLError) and "ALERT" in reason and any(name in reason for name in _REFUSED_CERTIFICATE):
        return reason
    return ""
