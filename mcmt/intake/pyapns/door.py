"""The methods of pyapns: provision, notify, feedback; and their answers, to the octet.

Source: pyapns 0.4.1 under Twisted 20.3. Every answer is HTTP 200 on any path; success of provision and notify is nil.

Rules: notify says nil when its notifications are on disk, all of them; a fault that is not the client's is 500, which
clients of pyapns try again. Fault 8002 says ``error`` and no more, as it did: the reject log has the reason.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from xmlrpc.client import DateTime

from mcmt.config.made_settings import Environment, MadeDomain, MakeDomains, made_name
from mcmt.config.settings import PyapnsSettings
from mcmt.errors import BusError, ControlError, MessageError, SpoolError
from mcmt.intake.apns_gateway.burst import bursts
from mcmt.intake.pyapns.certificate import is_pem, read_push_certificate
from mcmt.intake.pyapns.notifications import read_notifications
from mcmt.intake.pyapns.provisioning import ENVIRONMENTS, App, Provisioning
from mcmt.intake.pyapns.xmlrpc import FAILURE, Call, XmlRpcFault, fault, no_such_method, read_call, result
from mcmt.intake.reception import LARGE, Reception
from mcmt.intake.requests.door import Answer, Client
from mcmt.message.model import Envelope
from mcmt.spool.port import GoneToken, GoneTokens
from mcmt.wire.http1 import Refusal, Request, Response
from mcmt.wire.trace import Tracing

log = logging.getLogger(__name__)

PROTOCOL: Final = "pyapns"
"""This door's word in the main log."""
CONTENT_TYPE: Final = "text/xml; charset=utf-8"
Make = Callable[[MadeDomain, bytes], Awaitable[None]]
"""Has a domain be there, in every process and for good, with the PEM of its certificate and key. Raises MessageError,
SpoolError, ControlError, BusError: then nothing has changed."""
_TEXT: Final = "text/plain; charset=utf-8"
_PAGE: Final = 1000

_ERROR: Final = XmlRpcFault(FAILURE, "error")
_UNKNOWN: Final = XmlRpcFault(404, "The app_id specified has not been provisioned.")
_NOT_KEPT: Final = XmlRpcFault(500, "Connection to the APNS server could not be made.")


class PyapnsDoor:
    """One address."""

    def __init__(
        self,
        settings: PyapnsSettings,
        reception: Reception,
        provisioning: Provisioning,
        gone_tokens: GoneTokens | None,
        most: int,
        make: Make | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """*most*: notifications of one message. *make*: makes domains; None: none is made here."""
        self._reception = reception
        self._provisioning = provisioning
        self._gone_tokens = gone_tokens
        self._make = make
        self._now = now
        self.reload(settings, most)

    def reload(self, settings: PyapnsSettings, most: int) -> None:
        """Other settings hold, of the next request on connections that are open too."""
        self.idle_timeout = settings.idle_timeout
        self.max_message_size = settings.max_message_size
        self._settings = settings
        self._most = most

    # -- mcmt.intake.requests.door.RequestDoor -----------------------------------------------------------------------

    protocol = PROTOCOL

    @property
    def tracing(self) -> Tracing:
        """See RequestDoor."""
        return self._reception.tracing

    async def answer(self, request: Request, client: Client) -> Answer:
        """See RequestDoor."""
        if request.method != "POST":
            refused = Response(HTTPStatus.METHOD_NOT_ALLOWED, b"POST is\n", _TEXT, (("Allow", "POST"),))
            return Answer(refused)
        client.about.public = True
        received: Callable[[], None] | None = None
        try:
            call = await _aside(len(request.body), read_call, request.body)
            if call.method == "provision":
                client.about.shown = bytes  # there is a private key in it
            value, received = await self._call(call, client, len(request.body))
            body = result(value)
        except XmlRpcFault as told:
            body = fault(told)
        except MessageError as reason:
            body = fault(_ERROR if reason.code >= 500 else _NOT_KEPT)
        except SpoolError as error:
            self._reception.tell_not_kept(client.connection_id, client.peer, error)
            body = fault(_NOT_KEPT)
        response = Response(HTTPStatus.OK, body, CONTENT_TYPE)
        return Answer(response, None if received is None else partial(asyncio.to_thread, received))

    def busy(self, text: str) -> Response:  # noqa: ARG002 - the protocol's words are fixed
        """See RequestDoor."""
        return Response(HTTPStatus.OK, fault(_NOT_KEPT), CONTENT_TYPE)

    def refuse(self, refusal: Refusal) -> Response:
        """See RequestDoor."""
        return Response(refusal.status, f"{refusal.text}\n".encode(), _TEXT)

    # -- the methods -------------------------------------------------------------------------------------------------

    async def _call(self, call: Call, client: Client, size: int) -> tuple[Any, Callable[[], None] | None]:
        """The method's result, and what is to be done when the client has it."""
        match call.method, call.values:
            case "provision", (app_id, certificate, environment, *rest) if len(rest) < 2:
                await self._provision(client, app_id, certificate, environment)
                return None, None
            case "notify", (app_id, tokens, notifications):
                domain = self._domain(client, app_id, self._app(app_id))
                await self._notify(self._envelope(client, domain, app_id), tokens, notifications, size)
                return None, None
            case "feedback", (app_id,):
                domain = self._domain(client, app_id, self._app(app_id))
                return await asyncio.to_thread(self._feedback, domain)
            case "provision" | "notify" | "feedback", given:
                raise self._refused(client, "", _wrong(f"{call.method} does not take {len(given)} values"))
        raise no_such_method(call.method)

    async def _provision(self, client: Client, app_id: Any, certificate: Any, environment: Any) -> None:
        if environment not in ENVIRONMENTS:
            text = f"Invalid environment provided `{environment}`. Valid environments are `sandbox` and `production`"
            raise XmlRpcFault(401, text)
        if not isinstance(app_id, str) or not isinstance(certificate, str):
            raise self._refused(client, "", _wrong("an app id and a certificate are strings"))
        making = self._making(app_id, environment)
        if making is not None:
            try:
                await self._make_domain(making, app_id, certificate, environment)
            except MessageError as reason:
                raise self._refused(client, "", reason) from None
        try:
            changed = await asyncio.to_thread(self._provisioning.put, app_id, App.of(environment, certificate))
        except MessageError as reason:
            raise self._refused(client, "", reason) from None
        client.about.domain = self._domain_of(app_id, environment)
        if changed and not client.about.domain:
            log.warning("%s %s: %s", client.connection_id, client.peer, _no_domain(app_id, environment))

    def _domain_of(self, app_id: str, environment: Environment) -> str:
        """The app's domain: the configuration's, else the one that was made; empty: it has none."""
        domain = self._settings.domain_of(app_id, environment)
        if domain or (making := self._settings.make_domains) is None:
            return domain
        made = self._reception.made(made_name(app_id, environment, making.suffix))
        return made.domain if made is not None and made.app_id == app_id else ""

    def _making(self, app_id: str, environment: Environment) -> MakeDomains | None:
        """How a domain is made for the app; None: it has one in the configuration, or none is made."""
        return None if self._settings.domain_of(app_id, environment) else self._settings.make_domains

    async def _make_domain(self, making: MakeDomains, app_id: str, given: str, environment: Environment) -> None:
        """Have the app's domain be there, with the certificate that is *given*. Raises MessageError: it is as it was;
        SpoolError."""
        await asyncio.to_thread(self._provisioning.check_room, app_id)
        there = self._reception.made(made_name(app_id, environment, making.suffix))
        if there is not None and is_pem(given) and self._provisioning.get(app_id) == App.of(environment, given):
            return  # at once: clients provision again and again
        certificate = await asyncio.to_thread(
            read_push_certificate, given, making.certificate_folder, environment, self._now()
        )
        made = MadeDomain(
            app_id=app_id,
            environment=environment,
            suffix=making.suffix,
            topic=certificate.topic,
            certificate=certificate.digest,
            expires=certificate.expires,
        )
        if self._reception.made(made.domain) == made:
            return
        if self._make is None:
            raise MessageError(451, "4.3.2", "no domain can be made here")
        try:
            await self._make(made, certificate.pem)
        except (ControlError, BusError) as error:
            raise MessageError(451, "4.3.5", str(error)) from error

    def _app(self, app_id: Any) -> App:
        app = self._provisioning.get(app_id)
        if app is None:
            raise _UNKNOWN
        return app

    def _domain(self, client: Client, app_id: str, app: App) -> str:
        domain = self._domain_of(app_id, app.environment)
        if not domain:
            # Never 404: a client that is told so provisions again, and again, for as long as its stack is deep.
            raise self._refused(client, "", _wrong(_no_domain(app_id, app.environment)))
        client.about.domain = domain
        return domain

    async def _notify(self, envelope: Envelope, tokens: Any, dictionaries: Any, size: int) -> None:
        try:
            notifications = await _aside(size, read_notifications, tokens, dictionaries)
            # All are composed before the first is kept: a call is taken whole or not at all.
            composed = [
                await self._reception.composed_parts(envelope, burst.parts, burst.size)
                for burst in bursts(notifications, self._most)
            ]
        except MessageError as reason:
            self._reception.reject(envelope, "notify", reason)
            raise
        for one in composed:
            await self._reception.keep(one)

    def _feedback(self, domain: str) -> tuple[list[list[Any]], Callable[[], None] | None]:
        """Blocking."""
        tokens = self._gone_tokens
        told: list[GoneToken] = []
        while tokens is not None and (page := tokens.unread(domain, told[-1].number if told else 0, _PAGE)):
            told += page
        if tokens is None or not told:
            return [], None
        # As pyapns said it: the local time of the machine, without a zone.
        answer = [[DateTime(datetime.fromtimestamp(each.since)), each.token] for each in told]  # noqa: DTZ006
        return answer, partial(_told, tokens, domain, told[-1].number, len(told))

    def _envelope(self, client: Client, domain: str, app_id: str = "") -> Envelope:
        recipients = (f"{PROTOCOL}@{domain}",) if domain else ()
        peer, connection_id, _ = client
        return Envelope(self._settings.return_path, recipients, peer, connection_id, PROTOCOL, app_id)

    def _refused(self, client: Client, domain: str, reason: MessageError) -> MessageError:
        self._reception.reject(self._envelope(client, domain), "XML-RPC", reason)
        return reason


def _told(tokens: GoneTokens, domain: str, through: int, count: int) -> None:
    tokens.told(domain, through)
    log.info("%d device tokens of %s told", count, domain)


async def _aside(size: int, work: Callable[..., Any], *given: Any) -> Any:
    """What a large call costs is not waited for by others: 1 MB of XML takes some 200 ms."""
    return work(*given) if size <= LARGE else await asyncio.to_thread(work, *given)


def _no_domain(app_id: str, environment: str) -> str:
    return f"no domain is given to the app {app_id!a} in {environment}: name one in pyapns.listen, {environment}"


def _wrong(text: str) -> MessageError:
    return MessageError(554, "5.5.4", text)
