"""Apple's binary protocol as a client, for private gateways: routes with ``protocol=binary``.

The folder by what it knows: frames (a delivery as a frame), window (what was sent and is not confirmed), answers (what
an error packet means), stream (TLS, read to its last byte), connection (all of them together).
"""

from __future__ import annotations

from mcmt.channel.port import Report
from mcmt.clock import Clock
from mcmt.message.route import Route

from ..options import Options
from .connection import BinaryConnection
from .frames import FrameBuilder
from .stream import open_stream

__all__ = ["connect"]

DEFAULT_PORT = 2195


async def connect(route: Route, options: Options, report: Report, clock: Clock) -> BinaryConnection:
    """Open a connection; it is ready when TLS is. Raises ConnectError or RouteFaultError."""
    timeout = options.response_timeout(binary=True)
    connection = BinaryConnection(FrameBuilder(options.apn_expiry), options.apn_window, timeout, report, clock)
    await open_stream(route.host, route.port or DEFAULT_PORT, options, connection)
    return connection
