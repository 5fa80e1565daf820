"""Gateways on loopback that end with the test, on both event loops."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mcmt.channel import plugins
from mcmt.clock import SystemClock
from mcmt.config.settings import GatewaySettings, IntakeSettings
from mcmt.intake.doors import Doors
from mcmt.spool.port import GoneToken
from tests.support.old_sender import OldSender
from tests.support.tls import Certificates
from tests.unit.intake.server import ListSpool, make_settings


class ListOfTokens:
    """``GoneTokens`` in a list."""

    def __init__(self) -> None:
        self.tokens: list[GoneToken] = []

    def add(self, gone: Sequence[GoneToken]) -> None:
        self.tokens += gone

    def since(self, domain: str, tokens: Sequence[str]) -> Mapping[str, float]:
        raise NotImplementedError

    def page(self, domain: str | None, after: int, limit: int) -> Sequence[GoneToken]:
        raise NotImplementedError

    def unread(self, domain: str, after: int, limit: int) -> Sequence[GoneToken]:
        return [each for each in self.tokens if each.domain == domain and each.number > after][:limit]

    def told(self, domain: str, through: int) -> None:
        self.tokens = [each for each in self.tokens if each.domain != domain or each.number > through]


class Server:
    """A gateway, what stands behind it, and clients for it."""

    def __init__(self, doors: Doors, spool: ListSpool, tokens: ListOfTokens, certificates: Certificates) -> None:
        self.doors = doors
        self.spool = spool
        self.gone = tokens
        self.certificates = certificates
        self.clients: list[OldSender] = []
        self.gateway, *self.feedback = [(host, port) for _, host, port in doors.gateways.listening]

    async def connect(
        self,
        address: tuple[str, int] | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        receive_buffer: int = 0,
    ) -> OldSender:
        files = self.certificates
        client = await asyncio.to_thread(
            OldSender,
            address or self.gateway,
            files.ca,
            certificate or files.client,
            key or files.client_key,
            receive_buffer=receive_buffer,
        )
        self.clients.append(client)
        return client

    @property
    def tokens(self) -> list[str]:
        """Of everything kept, in order."""
        return [delivery.token for _, deliveries, _ in self.spool.accepted for delivery in deliveries]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when *condition* holds."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)  # a spool that is a list has no event to wait for

    async def kept(self, count: int) -> list[str]:
        """The tokens, once *count* are kept."""
        await self.until(lambda: len(self.tokens) >= count)
        return self.tokens


Gate = Callable[..., Awaitable[Server]]


@pytest.fixture
async def gate(certificates: Certificates) -> AsyncIterator[Gate]:
    """Start a gateway; every one is drained at the end."""
    started: list[Server] = []

    async def start(intake: IntakeSettings | None = None, clock: Any = None, **options: Any) -> Server:
        settings = GatewaySettings(
            **{
                "host": "127.0.0.1",
                "port": 0,
                "tls_certificate": certificates.server,
                "tls_key": certificates.server_key,
                "client_ca": certificates.ca,
                "domain": "" if "domains" in options else "apn.example.com",
                "return_path": "push@example.com",
                "feedback": ("127.0.0.1", 0),
                **options,
            }
        )
        spool, tokens = ListSpool(), ListOfTokens()
        doors = Doors(
            make_settings(gateways=(settings,), intake=intake or IntakeSettings()),
            {"apn": plugins.load("apn"), "discard": plugins.load("discard")},
            spool,
            clock or SystemClock(),
            secrets.randbits,
            gone_tokens=tokens,
        )
        await doors.start()
        started.append(Server(doors, spool, tokens, certificates))
        return started[-1]

    yield start
    for server in started:
        for client in server.clients:
            client.close()
        server.spool.gate.set()
        await server.doors.drain(0.0)
