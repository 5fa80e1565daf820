"""Every door of one process: SMTP, the gateways, the doors for requests of older push servers' clients, HTTP, XMPP;
with one account of connections and one memory. And the sources, which are servers that jobs are taken from.

A connection is known by the number of its address in ``Settings.addresses``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from mcmt.channel.port import Channel, State
from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.config.xmpp_settings import XmppSettings
from mcmt.errors import ListenError
from mcmt.intake.apns_gateway import ApnsGateways
from mcmt.intake.apns_gateway.connection import Gateway
from mcmt.intake.beanstalkd.source import BeanstalkdSources, Deal
from mcmt.intake.door import Admission
from mcmt.intake.failures import Login
from mcmt.intake.http import NEEDS_AIOHTTP
from mcmt.intake.listener import Prepared, SmtpListener
from mcmt.intake.pyapns import Make
from mcmt.intake.requests.listener import RequestListener
from mcmt.intake.sockets import Bind, bind_all
from mcmt.intake.sources import SourceStatus
from mcmt.intake.tls import CertificateFiles
from mcmt.intake.xmpp import NEEDS_SLIXMPP
from mcmt.intake.xmpp.attachment import Watch
from mcmt.spool.port import GoneTokens, Keeper
from mcmt.spool.registration import Registrations
from mcmt.spool.standing import JobKeeper, Tracker
from mcmt.wire.trace import Tracing


class HttpDoors(Protocol):
    """``mcmt.intake.http.listener.HttpListener``, which is imported only where it is used."""

    listening: tuple[tuple[str, str, int], ...]

    @property
    def sessions(self) -> int:
        """How many clients are connected."""

    async def start(self, *, listens: bool) -> None:
        """See HttpListener."""

    def prepare(self, settings: Settings) -> list[CertificateFiles | None]:
        """See HttpListener."""

    def reload(self, settings: Settings, certificates: Sequence[CertificateFiles | None]) -> None:
        """See HttpListener."""

    async def take(self, number: int, connected: socket.socket, admission: Admission) -> None:
        """See HttpListener."""

    async def drain(self, limit: float) -> None:
        """See HttpListener."""


class XmppComponents(Protocol):
    """``mcmt.intake.xmpp.component.Components``, which is imported only where it is used."""

    def start(self) -> None:
        """See Components."""

    def reload(self, settings: Sequence[XmppSettings], limit: float) -> None:
        """See Components."""

    async def drain(self, limit: float) -> None:
        """See Components."""


class PreparedDoors(NamedTuple):
    """What is opened for other settings, ready to take the place of what is open."""

    settings: Settings
    smtp: Prepared
    gateways: list[Gateway]
    http: list[CertificateFiles | None]


class Doors:
    """All of them."""

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        spool: Keeper,
        clock: Clock,
        random_bits: Callable[[int], int],
        tell: Callable[[Login], None] | None = None,
        gone_tokens: GoneTokens | None = None,
        bind: Bind = bind_all,
        tracker: Tracker | None = None,
        provisioned: State | None = None,
        registrations: Registrations | None = None,
        watch: Watch = lambda _: None,
        *,
        listens: bool = True,
        tracing: Tracing | None = None,
        jobs: JobKeeper | None = None,
        deal: Deal | None = None,
        make: Make | None = None,
    ) -> None:
        """*tell*, *bind* and *listens* as of SmtpListener; *gone_tokens*: what the feedback services tell, and
        what nothing is sent to. *tracker*: what became of messages, for the clients of HTTP, where there is HTTP.
        *provisioned*: where what clients of pyapns provision is kept; *make*: makes domains of that.
        *jobs*: what keeps those of sources. *deal*: which of the sources are this process', else
        all. *registrations*: of the devices that XMPP servers push
        to; None: another process is their component, or none is. *watch*: told how components fare.

        Raises ListenError."""
        self._settings = settings
        self._listens = listens
        self.smtp = SmtpListener(
            settings,
            channels,
            spool,
            clock,
            random_bits,
            tell,
            gone_tokens,
            bind,
            listens=listens,
            tracing=tracing,
        )
        self.gateways = ApnsGateways(
            settings, self.smtp.reception, self.smtp.memory, self.smtp.admission, clock, random_bits, gone_tokens, bind
        )
        shared = self.smtp.reception, self.smtp.memory, self.smtp.admission
        self.requests = RequestListener(settings, *shared, clock, random_bits, gone_tokens, provisioned, bind, make)
        self.http: HttpDoors | None = None
        if settings.http.listen and tracker is not None:
            self.http = _http_listener()(settings, *shared, clock, random_bits, tracker, bind)
        self.beanstalkd: BeanstalkdSources | None = None
        if jobs is not None:
            reception, memory, _ = shared
            self.beanstalkd = BeanstalkdSources(settings.beanstalkd, reception, jobs, memory, clock, random_bits, deal)
        self.xmpp: XmppComponents | None = None
        if registrations is not None:
            reception, memory, _ = shared
            self.xmpp = _xmpp_components()(
                settings.xmpp, reception, memory, clock, random_bits, gone_tokens, registrations, watch
            )

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where SMTP is listened for."""
        return self.smtp.addresses

    @property
    def listening(self) -> Sequence[tuple[str, str, int]]:
        """What is spoken on which host and port."""
        http = self.http.listening if self.http else ()
        smtp = [("SMTP", host, port) for host, port in self.addresses]
        return [*smtp, *self.gateways.listening, *self.requests.listening, *http]

    @property
    def sessions(self) -> int:
        """How many clients are connected."""
        served = self.smtp.sessions + self.gateways.sessions + self.requests.sessions
        return served + (self.http.sessions if self.http else 0)

    @property
    def sources(self) -> Sequence[SourceStatus]:
        """How the sources fare."""
        return self.beanstalkd.status if self.beanstalkd else ()

    async def start(self) -> None:
        """Begin to accept connections, and to take jobs. Raises ListenError, UsersError."""
        await self.smtp.start()
        try:
            await self.gateways.start(listens=self._listens)
            await self.requests.start(listens=self._listens)
            if self.http is not None:
                await self.http.start(listens=self._listens)
            if self.beanstalkd is not None:
                self.beanstalkd.start()
            if self.xmpp is not None:
                self.xmpp.start()
        except BaseException:
            await self.drain(0.0)
            raise

    def prepare(self, settings: Settings) -> PreparedDoors:
        """Open what *settings*, which have the same addresses, name. Raises ListenError, UsersError; nothing changes
        yet."""
        http = [] if self.http is None else self.http.prepare(settings)
        return PreparedDoors(settings, self.smtp.prepare(settings), self.gateways.prepare(settings), http)

    def reload(self, prepared: PreparedDoors) -> None:
        """Go on by them; what holds for connections that are open is each door's own."""
        settings = self._settings = prepared.settings
        self.smtp.reload(prepared.smtp)
        self.gateways.reload(prepared.gateways)
        self.requests.reload(settings)
        if self.http is not None:
            self.http.reload(settings, prepared.http)
        if self.beanstalkd is not None:
            self.beanstalkd.reload(settings.beanstalkd, settings.drain_timeout)
        if self.xmpp is not None:
            self.xmpp.reload(settings.xmpp, settings.drain_timeout)

    def heard(self, login: Login) -> None:
        """What another process with the same doors tells."""
        self.smtp.heard(login)

    async def take(self, number: int, connected: socket.socket, admission: Admission) -> None:
        """Begin a session, if *admission* has it so, on a connection that came to address *number*.

        Raises OSError: the client has gone already.
        """
        smtp = len(self._settings.listen)
        http = len(self._settings.addresses) - len(self._settings.http.listen)
        requests = http - len(self._settings.request_addresses)
        if number < smtp:
            await self.smtp.take(number, connected, admission)
        elif number < requests:
            await self.gateways.take(number - smtp, connected, admission)
        elif number < http:
            await self.requests.take(number - requests, connected, admission)
        elif self.http is not None:
            await self.http.take(number - http, connected, admission)

    async def drain(self, limit: float) -> None:
        """Stop accepting; let what is being received come to its end, for up to *limit* seconds."""
        drains = [self.smtp.drain_sessions(limit), self.gateways.drain(limit), self.requests.drain(limit)]
        if self.http is not None:
            drains.append(self.http.drain(limit))
        if self.beanstalkd is not None:
            drains.append(self.beanstalkd.drain(limit))
        if self.xmpp is not None:
            drains.append(self.xmpp.drain(limit))
        await asyncio.gather(*drains)
        await self.smtp.aclose()


def _http_listener() -> Callable[..., HttpDoors]:
    try:
        # Here and not above: a large import that only this stanza needs.
        from mcmt.intake.http.listener import HttpListener
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise ListenError(NEEDS_AIOHTTP) from None
    return HttpListener


def _xmpp_components() -> Callable[..., XmppComponents]:
    try:
        # Here and not above: an extra, which only this stanza needs.
        from mcmt.intake.xmpp.component import Components
    except ModuleNotFoundError as error:
        if error.name != "slixmpp":
            raise
        raise ListenError(NEEDS_SLIXMPP) from None
    return Components
