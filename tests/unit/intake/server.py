"""A listener on loopback with a spool that keeps what it is given in a list."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec

from channels import discard
from mcmt.channel.port import Channel, Reading, Target
from mcmt.clock import Clock, SystemClock
from mcmt.config.settings import DomainSettings, ListenSettings, Settings, SpoolSettings
from mcmt.errors import MessageError, SpoolError
from mcmt.intake.listener import SmtpListener
from mcmt.message.event import Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery, Part, header

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class ListSpool:
    """Keeps in a list; can be told to fail, or to wait."""

    def __init__(self) -> None:
        self.accepted: list[tuple[Message, Sequence[NewDelivery], Sequence[Event]]] = []
        self.recorded: list[Event] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    async def accept(
        self,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> None:
        self.waiting.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.accepted.append((message, deliveries, events))

    async def record(self, events: Sequence[Event]) -> None:
        await self.gate.wait()
        if isinstance(self.failure, SpoolError):
            raise self.failure
        self.recorded += events


class TokenChannel:
    """A channel that takes tokens out of the field ``x-device-token`` and ends out of ``ends``."""

    MEDIA_TYPES = frozenset({"message/vnd.msys.apn"})
    SCHEMES = frozenset({"apn"})
    LOGGER = None
    Options = discard.Options

    def read(self, part: Part, recipient: str, context: Any, options: Any) -> Reading:
        tokens = [value for name, value in part.headers if name == "x-device-token"]
        if not tokens and "DLV_Dest_ID" in context:
            tokens = [context["DLV_Dest_ID"]]
        if part.content.strip() == b"broken":
            raise MessageError(554, "5.6.0", "the payload is not JSON\r\n250 injected")
        ends = header(part.headers, "ends")
        expires = None if ends is None else float(ends)
        targets = tuple(Target(one.strip(), expires) for token in tokens for one in token.split(","))
        registered = float(header(part.headers, "registered") or 0)
        return Reading(part, targets or (Target(recipient.partition("@")[0], expires),), registered=registered)


def make_settings(**changes: Any) -> Settings:
    domains = {
        "apn.example.com": DomainSettings(
            name="apn.example.com", delivery_method="apn", routes=(), options=discard.Options()
        ),
        "other.example.com": DomainSettings(
            name="other.example.com",
            delivery_method="apn",
            routes=(),
            options=discard.Options(),
            message_expiration=10.0,
        ),
        "sink.example.com": DomainSettings(
            name="sink.example.com", delivery_method="discard", routes=(), options=discard.Options()
        ),
    }
    values: dict[str, Any] = {
        "file": Path("mcmt.yaml"),
        "hostname": "mx.example.com",
        "workers": 1,
        "spool": SpoolSettings(path=Path("spool")),
        "listen": (),
        "domains": domains,
        "channel_loggers": (),
        "mainlog": (),
        "rejectlog": (),
        "control_socket": Path("control.sock"),
    }
    return Settings(**{**values, **changes})


def make_channels() -> dict[str, Channel]:
    return {"apn": TokenChannel(), "discard": discard}  # type: ignore[dict-item]  # the part of a channel that intake uses


def make_listen(**changes: Any) -> ListenSettings:
    return ListenSettings(
        **{"host": "127.0.0.1", "port": 0, "relay_hosts": LOOPBACK, "mcmt_reception": "allow", **changes}
    )


class Server:
    """A started listener and what stands behind it."""

    def __init__(self, spool: ListSpool, listener: SmtpListener) -> None:
        self.spool = spool
        self.listener = listener
        self.address = listener.addresses[0]
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection(*self.address)
        client = Client(reader, writer)
        self.clients.append(client)
        assert (await client.reply()).startswith("220 ")
        return client

    async def hello(self) -> Client:
        client = await self.connect()
        await client.ask("EHLO client.example.com")
        return client

    async def ready(self, recipient: str = "token@apn.example.com") -> Client:
        """A session that has just been given its 354."""
        client = await self.hello()
        assert (await client.ask("MAIL FROM:<app@example.com>")).startswith("250")
        assert (await client.ask(f"RCPT TO:<{recipient}>")).startswith("250")
        assert (await client.ask("DATA")).startswith("354")
        return client


class Client:
    """A raw SMTP client: sends octets as told, reads whole replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next reply, lines joined; "" when the server has closed."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 5)).decode("ascii")
            lines.append(line)
            if line[3:4] != "-":
                return "".join(lines)

    async def start_tls(self, authority: Path | None = None) -> None:
        """The client's part of STARTTLS, once it is invited. Without *authority* anybody is believed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if authority is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_verify_locations(authority)
        await self.writer.start_tls(context, server_hostname="localhost")

    async def secure(self) -> None:
        """STARTTLS and EHLO."""
        assert (await self.ask("STARTTLS")).startswith("220 ")
        await self.start_tls()
        assert (await self.ask("EHLO client.example.com")).startswith("250")

    async def ask(self, command: str) -> str:
        self.send(command.encode() + b"\r\n")
        return await self.reply()

    async def rest(self) -> str:
        """All that still comes until the server closes."""
        return (await asyncio.wait_for(self.reader.read(), 5)).decode("ascii")

    def close(self) -> None:
        self.writer.close()


async def start_server(
    clock: Clock | None = None, settings: Settings | None = None, channels: Any = None, **listen: Any
) -> Server:
    """A listener on loopback; *listen* changes its stanza."""
    spool = ListSpool()
    listener = SmtpListener(
        msgspec.structs.replace(settings or make_settings(), listen=(make_listen(**listen),)),
        channels or make_channels(),
        spool,
        clock or SystemClock(),
        secrets.randbits,
    )
    await listener.start()
    return Server(spool, listener)


async def stop_server(server: Server) -> None:
    """End it, whatever it was told to wait for."""
    for client in server.clients:
        client.writer.transport.abort()
    server.spool.gate.set()
    await server.listener.drain(0.0)


MCMT = (
    b"From: app@example.com\r\n"
    b"Content-Type: multipart/vnd.msys.mcmt; boundary=B\r\n"
    b"\r\n"
    b"--B\r\n"
    b"Content-Type: message/vnd.msys.apn\r\n"
    b"\r\n"
    b"X-Device-Token: 0a1b\r\n"
    b"\r\n"
    b'{"aps":{"alert":"hello"}}\r\n'
    b"--B--\r\n"
)
