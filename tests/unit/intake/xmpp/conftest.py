"""A component on a hand-made server's side of the stream, with a spool that is a list; ended with the test."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mcmt.channel import plugins
from mcmt.clock import SystemClock
from mcmt.config.settings import IntakeSettings
from mcmt.config.xmpp_settings import XmppSettings
from mcmt.intake.listener import SmtpListener
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.intake.xmpp.component import Component
from mcmt.intake.xmpp.service import PushService
from mcmt.spool.port import GoneToken
from mcmt.spool.registration import Registration
from mcmt.spool.stored_registrations import StoredRegistrations
from mcmt.wire.trace import Tracing
from tests.support.xmpp_server import JID, SECRET, SERVER, XmppServer, xmpp_server
from tests.unit.intake.server import ListSpool, make_settings

DOMAIN = "apn.example.com"
TOKEN = "a1" * 32


class Gone:
    """``GoneTokens`` in a dictionary, as far as a component asks."""

    def __init__(self) -> None:
        self.tokens: dict[str, float] = {}

    def since(self, domain: str, tokens: Sequence[str]) -> Mapping[str, float]:
        return {token: self.tokens[token] for token in tokens if token in self.tokens and domain == DOMAIN}

    def page(self, domain: str | None, after: int, limit: int) -> Sequence[GoneToken]:
        raise NotImplementedError

    def unread(self, domain: str, after: int, limit: int) -> Sequence[GoneToken]:
        raise NotImplementedError

    def told(self, domain: str, through: int) -> None:
        raise NotImplementedError


class Attached:
    """A component, the server that it is connected to, and what stands behind it."""

    def __init__(self, server: XmppServer, registrations: StoredRegistrations) -> None:
        self.server = server
        self.registrations = registrations
        self.spool = ListSpool()
        self.gone = Gone()
        self.standings: list[Attachment] = []
        self.component: Component | None = None
        self.tracing: Tracing | None = None

    async def drain(self, limit: float) -> None:
        assert self.component is not None
        await self.component.drain(limit)

    @property
    def sent(self) -> list[tuple[str, bytes]]:
        """Token and payload of all that is kept, in order."""
        return [
            (delivery.token, message.parts[delivery.part].content)
            for message, deliveries, _ in self.spool.accepted
            for delivery in deliveries
        ]

    @property
    def headers(self) -> dict[str, str]:
        """Of the part that was kept last."""
        return dict(self.spool.accepted[-1][0].parts[-1].headers)

    def register(
        self, node: str = "n1", owner: str = f"bob@{SERVER}", token: str = TOKEN, secret: str = "sec", **more: Any
    ) -> None:
        values = {"device": node, "registered": time.time(), **more}
        one = Registration(service=JID, node=node, owner=owner, token=token, secret=secret, **values)
        assert self.registrations.put(one) is not None

    def learn(self, token: str, since: float) -> None:
        self.gone.tokens[token] = since


Start = Callable[..., Awaitable[Attached]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a component and return when its server has accepted it; *begin* may be false."""
    begun: list[tuple[Attached, Component, SmtpListener]] = []

    async def begin(
        *, within: float = 20.0, wait: bool = True, port: int = 0, intake: IntakeSettings | None = None, **options: Any
    ) -> Attached:
        attached = Attached(server, StoredRegistrations.open(tmp_path))
        settings = XmppSettings(
            **{
                "host": "127.0.0.1",
                "port": port or server.port,
                "jid": JID,
                "secret": SECRET,
                "domain": DOMAIN,
                "servers": frozenset({SERVER}),
                **options,
            }
        )
        clock, bits = SystemClock(), secrets.randbits
        whole = make_settings(intake=intake or IntakeSettings())
        channels = {"apn": plugins.load("apn"), "discard": plugins.load("discard")}
        smtp = SmtpListener(whole, channels, attached.spool, clock, bits, None, attached.gone)
        service = PushService(
            settings, smtp.reception, smtp.memory, attached.registrations, attached.gone, clock, bits, within
        )
        component = Component(settings, service, clock, bits, lambda: attached.standings.append(component.attachment))
        attached.component = component
        attached.tracing = smtp.reception.tracing
        component.start()
        begun.append((attached, component, smtp))
        if wait:
            await asyncio.wait_for(server.attached.wait(), 20)
        return attached

    async with xmpp_server() as server:
        yield begin
        for attached, component, smtp in begun:
            attached.spool.gate.set()
            await component.drain(5.0)
            await smtp.reception.aclose()
            attached.registrations.close()
