"""A control server on a real socket and a real spool, with an engine, a listener and an event log to be set by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mcmt.config.rules import Rule
from mcmt.config.settings import DomainSettings, EventLogSettings, ListenSettings, Settings, SpoolSettings
from mcmt.control.protocol import Reloaded
from mcmt.control.server import ControlServer
from mcmt.control.station import LocalStation, Station
from mcmt.engine.hands import Handled, Work
from mcmt.engine.rulings import Ruling
from mcmt.engine.suspensions import Suspension
from mcmt.errors import ControlError, EventLogError
from mcmt.eventlog.rotation import Rotation
from mcmt.eventlog.tally import Tally
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.message.event import Event
from mcmt.message.model import Envelope, Message, NewDelivery, Part
from mcmt.message.route import Route
from mcmt.spool.gone_tokens import StoredTokenTable
from mcmt.spool.port import Spool
from mcmt.spool.registration import Registrations
from mcmt.telemetry.status import TelemetryStatus
from mcmt.webhooks.status import WebhookStatus
from mcmt.wire.trace import Tracing
from tests.support.manual_clock import ManualClock

DOMAIN = "apn.example.com"
LEDGER = "ec_logger.ec_logger1"
CHANNEL_LOG = "apn_logger.apn_logger1"


class StandInEngine:
    def __init__(self) -> None:
        self.in_force: dict[str, list[tuple[Ruling, Rule]]] = {}
        self.domains: list[dict[str, object]] = []
        self.resident = 0
        self.stuck = False
        self.stopped: dict[str, Suspension] = {}
        self.handled: list[tuple[Work, Mapping[int, str]]] = []
        self.retried: list[str] = []

    def suspend(self, domain: str, reason: str, *, until: float = 0.0, tell: bool = True) -> None:
        self.stopped[domain] = Suspension(reason, 0.0, until)

    def resume(self, domain: str, *, trust: bool = False, tell: bool = True) -> None:
        if domain not in self.stopped:
            raise ControlError(f"{domain} is not suspended")
        del self.stopped[domain]

    def retry(self, domain: str) -> None:
        self.retried.append(domain)

    def suspended(self) -> dict[str, Suspension]:
        return self.stopped

    def ruled(self, domain: str) -> Sequence[tuple[Ruling, Rule]]:
        return self.in_force.get(domain, ())

    @property
    def ruled_domains(self) -> Collection[str]:
        return self.in_force

    async def by_hand(self, work: Work, chosen: Mapping[int, str]) -> Handled:
        self.handled.append((work, chosen))
        return Handled(done=len(chosen))

    def snapshot(self) -> list[dict[str, object]]:
        return self.domains


class StandInFront:
    addresses = (("127.0.0.1", 2525), ("::1", 2525))
    listening = (("SMTP", "127.0.0.1", 2525), ("SMTP", "::1", 2525), ("HTTP", "127.0.0.1", 8025))
    sessions = 3
    workers = (4711,)
    missing: Sequence[str] = ()
    webhooks: Sequence[WebhookStatus] = ()
    telemetry: TelemetryStatus | None = None
    registrations: Registrations | None = None
    attachments: Sequence[Attachment] = ()

    def __init__(self, tokens: StoredTokenTable, *stations: Station) -> None:
        self.tokens = tokens
        self.tally = Tally(tokens, [DOMAIN], 10)
        self.stations = stations

    async def reload(self, *, check: bool) -> Reloaded:
        return Reloaded(config="/etc/mcmt/mcmt.yaml", check=check)

    async def let_go_of(self, domain: str) -> None:
        raise ControlError(f"{domain} was not made for an app")


class StandInEventLog:
    def __init__(self) -> None:
        self.listeners: dict[object, Callable[[str, str, Event], None]] = {}
        self.flushing = asyncio.Event()
        self.may_flush = asyncio.Event()
        self.may_flush.set()
        self.stopped = False

    def follow(self, listener: Callable[[str, str, Event], None]) -> Callable[[], object]:
        key = object()
        self.listeners[key] = listener
        return lambda: self.listeners.pop(key, None)

    async def rotate(self, logger: str | None) -> Sequence[Rotation]:
        names = [name for name in (CHANNEL_LOG, LEDGER) if logger in (None, name)]
        if not names:
            raise EventLogError(f"there is no logger {logger}")
        return [Rotation(name, f"/logs/{name}", f"/logs/{name}-20261122T180000Z") for name in names]

    async def flushed(self) -> None:
        self.flushing.set()
        await self.may_flush.wait()
        if self.stopped:
            raise EventLogError("the event log was stopped before all lines could be written")

    def tell(self, logger: str, line: str, event: Event) -> None:
        for listener in tuple(self.listeners.values()):
            listener(logger, line, event)


class Running:
    """A server, and what it answers from."""

    def __init__(self, path: Path, spool: Spool) -> None:
        self.path = path
        self.clock = ManualClock()
        self.engine = StandInEngine()
        self.eventlog = StandInEventLog()
        self.clients: list[Peer] = []
        self.folder = TemporaryDirectory()
        tokens = StoredTokenTable.create(Path(self.folder.name), self.clock)
        self.tracing = Tracing(self.clock)
        station = LocalStation(settings(path), spool, self.engine, self.clock, tracing=self.tracing)
        self.front = StandInFront(tokens, station)
        self.server = ControlServer(settings(path), self.front, self.eventlog, self.clock)

    async def client(self) -> Peer:
        reader, writer = await asyncio.open_unix_connection(self.path)
        self.clients.append(Peer(reader, writer))
        return self.clients[-1]


class Peer:
    """A client that sees every line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: object) -> None:
        self.writer.write(json.dumps(request).encode() + b"\n")
        await self.writer.drain()

    async def answer(self) -> dict[str, Any]:
        """The next line; an empty one when the server has hung up."""
        line = await self.reader.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    async def answers(self) -> list[dict[str, Any]]:
        """Every line up to ``end``, ``failed`` or the end of the connection."""
        found: list[dict[str, Any]] = []
        while not found or found[-1].get("type") not in ("end", "failed", None):
            found.append(await self.answer())
        return found

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def running(path: Path, spool: Spool) -> AsyncIterator[Running]:
    it = Running(path, spool)
    try:
        await it.server.start()
        yield it
    finally:
        for client in it.clients:
            await client.close()
        await it.server.close()
        it.front.tokens.close()
        it.folder.cleanup()


def settings(path: Path) -> Settings:
    domain = DomainSettings(
        name=DOMAIN, delivery_method="apn", routes=(Route("apn", "gateway.example.com"),), options=None
    )
    return Settings(
        file=path.parent / "mcmt.yaml",
        hostname="localhost",
        workers=1,
        spool=SpoolSettings(path=path.parent),
        listen=(ListenSettings(host="127.0.0.1", port=2525),),
        domains={DOMAIN: domain},
        channel_loggers=(EventLogSettings(name=CHANNEL_LOG, channel="apn", logfile=path.parent / "apnlog.ec"),),
        mainlog=(EventLogSettings(name=LEDGER, channel=None, logfile=path.parent / "mainlog.ec"),),
        rejectlog=(),
        control_socket=path,
    )


def message(number: int, received: float, deliveries: int = 1) -> tuple[Message, list[NewDelivery]]:
    """A message with a batch id made of *number*, and its deliveries."""
    made = Message(
        batch_id=f"{number:024x}",
        received=received,
        envelope=Envelope("app@example.com", (f"push@{DOMAIN}",)),
        header_block=b"",
        context={},
        parts=(Part("message/vnd.msys.apn", (), b"{}"),),
        size=100,
    )
    return made, [
        NewDelivery(each, DOMAIN, f"push@{DOMAIN}", f"{each:064x}", 0, received + 3600)
        for each in range(1, deliveries + 1)
    ]
