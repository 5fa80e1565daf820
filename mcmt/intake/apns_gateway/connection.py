"""One client's connection, below what is said on it: TLS, who the client is, the deadline, the end.

Rules: nothing is said before the client is known; our last word is followed by the end of our side, and what the client
still sends is thrown away until it has closed or ``linger`` has passed. It must not know what is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from mcmt.clock import Clock, Timer
from mcmt.config.settings import GatewaySettings
from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.intake.apns_gateway.client import Client
from mcmt.intake.apns_gateway.shown import BINARY
from mcmt.intake.apns_gateway.tls import ServerTls
from mcmt.intake.connection_watch import ConnectionWatch
from mcmt.intake.door import Entrance, client_of
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.tls import CertificateFiles
from mcmt.message.model import Envelope
from mcmt.spool.port import GoneTokens
from mcmt.wire.trace import Trace

log = logging.getLogger(__name__)

PROTOCOL: Final = "apns"
"""This door's word in the main log."""
LOCAL_PART: Final = "apns"
"""Of the recipient that notifications are logged with: they are for tokens of the domain, not for a mailbox."""
# What a rejection says of TLS is the client's doing; everything else in a handshake is the network's.
_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE")


class Gateway(NamedTuple):
    """One address of the gateway, as its connections know it."""

    settings: GatewaySettings
    reception: Reception
    clock: Clock
    random_bits: Callable[[int], int]
    sessions: Entrance
    memory: IntakeMemory
    certificate: CertificateFiles
    gone_tokens: GoneTokens | None
    most: int
    """Notifications of one message."""
    number: int
    """Which of the addresses it is."""


class GatewayConnection(asyncio.Protocol):
    """What there is to a connection beside what is said on it."""

    linger = limits.GATEWAY_LINGER
    """Seconds that a client has to close after our last word."""

    def __init__(self, gateway: Gateway, loop: asyncio.AbstractEventLoop) -> None:
        self._gateway = gateway
        self._loop = loop
        self._tls = ServerTls(gateway.certificate.context())
        self._connection_id = f"{gateway.random_bits(64):016x}"
        self._client: Client | None = None
        self._domain = ""
        """What the client pushes to; empty: it is not known yet, or refused."""
        self._user = ""
        self._since = gateway.clock.monotonic()
        """Since when the client is waited for."""
        self._timer: Timer | None = None
        self._all_came = False
        """The client sends nothing more."""
        self._half_closed = False
        """And has said so to TCP."""
        self._watched: ConnectionWatch | None = None
        """While somebody watches."""
        self._ended = False
        """Our last word is said."""
        self._gone = False
        """The connection is lost."""

    # -- what the conversations give -----------------------------------------------------------------------------

    def _known(self) -> None:
        """The client is known, and the conversation begins."""

    def _said(self, data: bytes) -> None:
        """The client says *data*."""

    def _came_to_end(self) -> None:
        """The client sends nothing more; or the connection is lost, and ``_gone`` is set."""
        raise NotImplementedError

    def _busy(self) -> bool:
        """The client waits for us, not we for it."""
        raise NotImplementedError

    def _time_is_over(self) -> None:
        """Nothing came for ``idle_timeout``."""
        raise NotImplementedError

    # -- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the handshake, or turn away what is one connection too many: it is told nothing."""
        # No TCP_NODELAY here: both event loops set it. Without, Nagle keeps an error packet back.
        self._wire = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0].partition("%")[0] if peer else ""
        self._who = f"{self._connection_id} {self._peer}"
        if self._gateway.sessions.admit(self, client_of(self._peer)):
            self._ended = self._gone = True
            self._wire.abort()
            return
        self._timer = self._gateway.clock.call_later(limits.TLS_HANDSHAKE, self._wire.abort)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - why it was lost changes nothing
        """What has come is kept all the same."""
        if self._gone:
            return
        self._gone = self._all_came = True
        if self._watched is not None:
            self._watched.lost()
        self._stop_timer()
        self._came_to_end()

    def data_received(self, data: bytes) -> None:
        """Octets of TLS; after our last word nobody reads them."""
        if self._ended:
            return
        try:
            said = self._tls.receive(data)
        except ssl.SSLError as error:
            self._tls_failed(error)
            return
        self._flush()
        if self._tls.established and not self._domain:
            self._meet()
            if self._ended:
                return
        if said:
            self._since = self._gateway.clock.monotonic()
            self._said(said)
        if self._tls.ended and not self._all_came:
            self._all_came = True
            self._came_to_end()

    def eof_received(self) -> bool:
        """The client has closed its side. What has come is worked off before we close ours."""
        if self._ended:
            return False
        self._half_closed = True
        if not self._all_came:
            self._all_came = True
            if self._domain:
                self._came_to_end()
            else:
                self._wire.abort()
        return True

    def _meet(self) -> None:
        client = self._client = Client.of(*self._tls.certificate())
        self._user = client.name
        self._domain = client.domain(self._gateway.settings)
        if self._domain:
            self._watch()
            self._known()
            return
        text = f"no domain is given to this client (SHA-256 {client.fingerprint}{client.uid and f', UID {client.uid}'})"
        self._turn_away(text)

    def _tls_failed(self, error: ssl.SSLError) -> None:
        if self._tls.established:
            log.info("%s: %s", self._who, error)
        elif error.reason in _CERTIFICATE:
            self._turn_away(f"no certificate of client_ca: {getattr(error, 'verify_message', None) or error.reason}")
            return
        else:
            log.info("%s: no TLS: %s", self._who, error)
        self._end(b"")

    def _turn_away(self, text: str) -> None:
        log.info("%s: refused: %s", self._who, text)
        # RFC 3463: X.7.1, delivery not authorized.
        self._gateway.reception.reject(self._envelope(), "TLS", MessageError(550, "5.7.1", text))
        self._end(b"")

    def _envelope(self) -> Envelope:
        recipients = (f"{LOCAL_PART}@{self._domain}",) if self._domain else ()
        return Envelope(
            self._gateway.settings.return_path, recipients, self._peer, self._connection_id, PROTOCOL, self._user
        )

    def _trace(self) -> Trace | None:
        """Where those who watch the client's domain are told; None: nobody does."""
        tracing = self._gateway.reception.tracing
        if not tracing.watched or not self._domain:
            return None
        if self._watched is None:
            self._watched = ConnectionWatch(tracing, self._domain, self._peer, BINARY, f"{self._who}, {self._user}")
        return self._watched.trace

    def _flush(self) -> None:
        if not self._gone and (out := self._tls.to_send()):
            self._wire.write(out)

    # -- the deadline --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look at the clock: so often that a deadline which was set since the last look has not long passed."""
        self._stop_timer()
        clock, limit = self._gateway.clock, self._gateway.settings.idle_timeout
        left = limit if self._busy() else self._since + limit - clock.monotonic()
        if left > 0:
            self._timer = clock.call_later(left, self._watch)
        else:
            self._time_is_over()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reload(self, gateways: Sequence[Gateway]) -> None:
        """Other settings hold. Of a client that they would not serve as it is served, what was read is kept, and the
        connection ends as when the engine stops: whoever may comes back."""
        before = self._gateway.settings
        self._gateway = gateways[self._gateway.number]._replace(sessions=self._gateway.sessions)
        now = self._gateway.settings
        if self._ended or self._gone:
            return
        served = "" if self._client is None else self._client.domain(now)
        if served != self._domain or now.client_ca != before.client_ca:
            self.drain()

    # -- the end -------------------------------------------------------------------------------------------------

    def _end(self, last: bytes) -> None:
        """Say *last* and the end of our side, then wait for the client's."""
        if self._ended or self._gone:
            self._ended = True
            return
        self._ended = True
        if last:
            self._tls.send(last)
        self._tls.finish()
        self._flush()
        self._stop_timer()
        if self._wire.is_closing():
            return
        self._timer = self._gateway.clock.call_later(self.linger, self._wire.abort)
        if self._half_closed:
            self._wire.close()
            return
        self._wire.resume_reading()
        with contextlib.suppress(OSError):  # a reset has come that we have yet to hear of
            self._wire.write_eof()

    def drain(self) -> None:
        """Finish what was begun, and end."""
        raise NotImplementedError

    def abort(self) -> None:
        """End now, whatever was not kept."""
        if not self._gone:
            self._wire.abort()

    def _leave(self) -> None:
        """The connection is gone, and nothing more is done for it."""
        self._gateway.sessions.discard(self)
