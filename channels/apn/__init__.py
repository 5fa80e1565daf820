"""The channel ``apn``: Apple Push Notification service over HTTP/2, or over the binary protocol that came before it.

Routes are ``apn://host[:port][?protocol=http2|binary]``; the port is 443 when not given (Apple also listens on 2197),
and 2195 with ``protocol=binary``. The folder by what it knows: options (the domain's), part (a message's rendering),
request (header blocks), answers (what Apple's reasons mean), provider_token, transport (TCP, TLS), connection
(streams), and binary, a folder of its own: the older protocol.
"""

from __future__ import annotations

from mcmt.channel.port import Report, State
from mcmt.clock import Clock
from mcmt.message.failure import ReportTerms
from mcmt.message.route import Route

from . import binary
from .binary.connection import BinaryConnection
from .binary.feedback import feedback
from .connection import ApnsConnection
from .logger import LOGGER
from .options import Options, check, is_binary, needs
from .part import MEDIA_TYPE, read
from .provider_token import ProviderToken
from .request import RequestBuilder
from .transport import open_transport

__all__ = [
    "LOGGER",
    "MEDIA_TYPES",
    "REPORT_TERMS",
    "SCHEMES",
    "Options",
    "check",
    "connect",
    "feedback",
    "needs",
    "read",
]

MEDIA_TYPES = frozenset({MEDIA_TYPE})
SCHEMES = frozenset({"apn"})
REPORT_TERMS = ReportTerms("X-APNs", "X-Device-Token", "X-Apns-Id")
DEFAULT_PORT = 443


async def connect(
    route: Route, options: Options, report: Report, clock: Clock, state: State
) -> ApnsConnection | BinaryConnection:
    """Open a connection and wait until it takes deliveries. Raises ConnectError or RouteFaultError."""
    if is_binary(route):
        return await binary.connect(route, options, report, clock)
    port = route.port or DEFAULT_PORT
    host = f"[{route.host}]" if ":" in route.host else route.host
    # RFC 9113 8.3.1: :authority leaves out the scheme's default port.
    builder = RequestBuilder(host if port == DEFAULT_PORT else f"{host}:{port}", options.apn_topic, options.apn_expiry)
    provider_token = None
    if options.apn_auth_key is not None and options.apn_key_id is not None and options.apn_team_id is not None:
        provider_token = ProviderToken(options.apn_auth_key, options.apn_key_id, options.apn_team_id, state, clock)
    _, connection = await open_transport(
        route.host,
        port,
        options,
        lambda: ApnsConnection(builder, provider_token, options.response_timeout(binary=False), report, clock),
    )
    await connection.greeted()
    return connection
