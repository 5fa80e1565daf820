"""The engine in several processes: the supervisor, which has everything that there is once.

It holds the spool folder's lock, the listening sockets, the log files, the control socket, and who may have how many
connections. Every message is taken, kept and sent by one of its workers (worker.py), each on a shard of its own.

Order of starting: workers, event log, connections, control. Stopping: no more connections, the workers drain, what
they have told is written to the logs, the workers end.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from mcmt.app.closing import Closing
from mcmt.app.making import LettingGo, Making, remove_leftovers
from mcmt.app.rehash import SCOPE, rehashed
from mcmt.app.reloading import Reloading
from mcmt.app.shards import adopted
from mcmt.channel.port import Channel
from mcmt.clock import Clock, SystemClock
from mcmt.config.load import Loaded
from mcmt.config.made_settings import MadeDomain
from mcmt.config.settings import Settings
from mcmt.config.sources import Content
from mcmt.control.protocol import Reloaded
from mcmt.control.server import ControlServer
from mcmt.control.station import Station
from mcmt.engine.lender import Lender
from mcmt.engine.rulings import SCOPE as RULES
from mcmt.engine.shaper import Shaper
from mcmt.engine.throttles import Throttles
from mcmt.errors import ControlError, MessageError, OutboxAway
from mcmt.eventlog.loggers import build_loggers
from mcmt.eventlog.tally import Tally
from mcmt.eventlog.writer import EventLogWriter
from mcmt.intake.door import SessionLimits
from mcmt.intake.sockets import Bind, bind_all
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.monitor.server import MonitorServer
from mcmt.spool.folder import FolderLock, prepare_folder
from mcmt.spool.gone_tokens import StoredTokenTable
from mcmt.spool.log_memory import StoredLogMemory
from mcmt.spool.shard_files import shards_in
from mcmt.spool.state import StateStore
from mcmt.spool.stored_registrations import StoredRegistrations
from mcmt.telemetry.status import TelemetryStatus
from mcmt.telemetry.telemetry import Telemetry
from mcmt.webhooks.status import WebhookStatus
from mcmt.webhooks.webhooks import Webhooks
from mcmt.workers.acceptor import Acceptor, Sink
from mcmt.workers.life_words import Begin
from mcmt.workers.process import Worker
from mcmt.workers.remote import RemoteHolder, RemoteOutbox, RemotePermitHolder, RemoteStation
from mcmt.workers.rule_words import RuleMatched, RulesLifted, Succeeded
from mcmt.workers.shaping import RemoteEngines
from mcmt.workers.words import (
    AskAll,
    Attached,
    Events,
    FindKey,
    FindStanding,
    GivenBack,
    Gossip,
    HandOver,
    Left,
    MakeDomain,
    MaybeKnown,
    MaybeStanding,
    Move,
    Nothing,
    PermitsUnused,
    PermitsWanted,
    Retired,
    Verdict,
    Wanted,
)

log = logging.getLogger(__name__)


class Supervisor:
    """One engine of several workers, on one spool."""

    tokens: StoredTokenTable
    tally: Tally
    monitor: MonitorServer
    eventlog: EventLogWriter
    acceptor: Acceptor
    registrations: StoredRegistrations | None = None
    attachments: Sequence[Attachment] = ()

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        content: Content,
        clock: Clock | None = None,
        bind: Bind = bind_all,
    ) -> None:
        """*content*: of the configuration, for the workers to read as it was read here. *bind*: gives sockets."""
        self.settings = settings
        self._content = content
        self._bind = bind
        self._clock = clock or SystemClock()
        self._closing = Closing()
        self._last = Closing()
        """Closed when everything else is but the lock: to the end whoever asks is told that the engine stops."""
        self._stopping = False
        self._channels = channels
        self._reloading = Reloading(channels, content)
        self._workers: list[Worker] = []
        self._sinks: dict[Worker, Sink] = {}
        self._holders: dict[tuple[int, str], RemoteHolder] = {}
        self._drawing: dict[tuple[int, str], RemotePermitHolder] = {}

    async def start(self) -> None:
        """Open everything, in order. Raises McmtError; then what was opened is closed again."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings, clock, folder = self.settings, self._clock, self.settings.spool.path
        prepare_folder(folder)
        lock = await asyncio.to_thread(FolderLock.acquire, folder)
        self._closing.add(lambda: asyncio.to_thread(lock.release))
        await asyncio.to_thread(remove_leftovers, folder)
        self._closing.add(self._last.close)
        state = StateStore.open(folder)
        self._closing.add(lambda: asyncio.to_thread(state.close))
        self._shaper = Shaper(settings, state.scope(RULES), clock, self._granted)
        self._closing.add(self._close_shaper)
        self._shaped = RemoteEngines(self._shaper)
        self._lender = Lender(self._shaper.connections_of, clock)
        self._throttles = Throttles(self._shaper.throttles(), clock)
        self.tokens = StoredTokenTable.create(folder, clock)
        self._closing.add(lambda: asyncio.to_thread(self.tokens.close))
        if settings.xmpp:
            self.registrations = StoredRegistrations.open(folder)
            self._closing.add(partial(asyncio.to_thread, self.registrations.close))
        self._limits = SessionLimits(settings.intake, clock)
        self.acceptor = Acceptor(settings.addresses, self._limits, clock, self._bind)
        self._webhooks = Webhooks(self.tokens, folder, clock, random.random, log.warning)
        self._closing.add(self._webhooks.stop)
        await self._webhooks.open(settings.webhooks)
        self._telemetry = Telemetry(self._webhooks, settings.opentelemetry, settings.hostname, log.warning)
        self._closing.add(self._telemetry.stop)
        self.tally = Tally(self._telemetry, settings.exact_domains, settings.monitor.max_metric_domains)
        self.acceptor.open()
        self._closing.add(self._close_acceptor)
        found = shards_in(folder)
        since = rehashed(state.scope(SCOPE), settings.workers, clock.time(), begun=bool(found))
        for number in range(settings.workers):
            adopts = tuple(adopted(found, number, settings.workers))
            begin = Begin(number, str(settings.file), self._content, adopts, since)
            self._workers.append(Worker(begin, lock.handle, self, clock))
        self.eventlog = EventLogWriter(StoredLogMemory(state), build_loggers(settings), clock, log.error, self.tally)
        self.monitor = MonitorServer(settings, self, self.eventlog, clock)
        for worker in self._workers:
            for shard in worker.shards:
                self.eventlog.add(str(shard), RemoteOutbox(shard, lambda worker=worker: worker.reach))  # type: ignore[misc]
        self._closing.add(self._stop_workers)
        await asyncio.gather(*(worker.start() for worker in self._workers))
        await self.eventlog.start()
        self._closing.add(self.eventlog.stop)
        self._webhooks.start()
        self._closing.add(self._drain_workers)
        self._closing.add(self._close_acceptor)
        self._control = ControlServer(settings, self, self.eventlog, clock)
        await self._control.start()
        self._closing.add(self._control.close)
        self._last.add(self.monitor.close)
        await self.monitor.start()
        self._closing.add(self.monitor.drain)

    async def stop(self) -> None:
        """Stop taking, drain within ``drain_timeout``, write the rest, end the workers, let go of the spool."""
        self._stopping = True
        await self._closing.close()

    async def reopen_logs(self) -> None:
        """The log files may have been renamed: write to what their paths name now."""
        await self.eventlog.reopen()

    def _granted(self) -> None:
        self._lender.reload(self._shaper.connections_of)
        self._throttles.reload(self._shaper.throttles())

    async def _close_shaper(self) -> None:
        self._shaper.close()

    async def _close_acceptor(self) -> None:
        self.acceptor.close()

    async def _drain_workers(self) -> None:
        # A worker drains its doors and then its engines, each within drain_timeout.
        await asyncio.gather(*(worker.drain(2 * self.settings.drain_timeout) for worker in self._workers))

    async def _stop_workers(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    async def reload(self, *, check: bool) -> Reloaded:
        """See Front."""
        return await self._reloading.reload(lambda: self.settings, self._swap, check=check)

    async def let_go_of(self, domain: str) -> None:
        """See Front."""
        await self._reloading.alter(lambda: self.settings, self._swap, LettingGo(domain))

    async def _make(self, made: MadeDomain, pem: bytes) -> Verdict:
        try:
            await self._reloading.alter(lambda: self.settings, self._swap, Making(made, pem, self._channels))
        except MessageError as refusal:
            return Verdict((refusal.code, refusal.enhanced, refusal.text))
        return Verdict(None)

    async def _swap(self, loaded: Loaded, settings: Settings, check: bool) -> None:
        # In two steps: every worker has read it and is ready before the first one goes on by it.
        await asyncio.gather(*(worker.prepare(loaded.content) for worker in self._workers))
        loggers = build_loggers(settings)
        if check:
            return
        await self._webhooks.prepare(settings.webhooks)
        await self._telemetry.prepare(settings.opentelemetry)
        await self.eventlog.reload(loggers)
        if self._stopping:
            raise ControlError("the engine stops")
        self.settings = settings
        self._limits.settings = settings.intake
        self.acceptor.reload(settings.addresses)
        self._shaper.reload(settings)
        self._granted()
        self._control.reload(settings)
        self.monitor.reload(settings)
        await asyncio.gather(*(worker.swap(loaded.content) for worker in self._workers))
        self._shaper.reloaded()
        await self._webhooks.reload(settings.webhooks)
        await self._telemetry.reload(settings.opentelemetry)

    # -- mcmt.control.front.Front ---------------------------------------------------------------------------------

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where SMTP is listened for."""
        return [(host, port) for word, host, port in self.listening if word == "SMTP"]

    @property
    def listening(self) -> Sequence[tuple[str, str, int]]:
        """What is spoken on which host and port."""
        return self.acceptor.listening

    @property
    def sessions(self) -> int:
        """Clients connected."""
        return self.acceptor.sessions

    @property
    def stations(self) -> Sequence[Station]:
        """Every shard whose worker works."""
        return [
            RemoteStation(shard, lambda worker=worker: worker.reach)  # type: ignore[misc]
            for worker in self._workers
            if not worker.missing
            for shard in worker.shards
        ]

    @property
    def webhooks(self) -> Sequence[WebhookStatus]:
        """How each webhook fares."""
        return self._webhooks.status()

    @property
    def telemetry(self) -> TelemetryStatus | None:
        """How the export of spans fares."""
        return self._telemetry.status()

    @property
    def workers(self) -> Sequence[int]:
        """Pids of the workers."""
        return [worker.pid for worker in self._workers if worker.pid]

    @property
    def missing(self) -> Sequence[str]:
        """Workers that do not work at the moment, and why."""
        return [worker.missing for worker in self._workers if worker.missing]

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""
        return sum(worker.restarts for worker in self._workers)

    # -- mcmt.workers.process.Supervising --------------------------------------------------------------------------

    def began(self, worker: Worker) -> None:
        """See Supervising: pass it connections."""
        assert worker.connections is not None  # noqa: S101 - it works
        self._sinks[worker] = Sink(worker.connections)
        self.acceptor.add(self._sinks[worker])
        self.eventlog.wake()
        for shard in worker.shards:
            self._shaped.began(shard, lambda: worker.bus)

    def ended(self, worker: Worker) -> None:
        """Its sessions are gone, its connections will be."""
        if (sink := self._sinks.pop(worker, None)) is not None:
            self.acceptor.remove(sink)
        if 0 in worker.shards:
            reason = "its worker is being started"
            self.attachments = [replace(one, connected=False, reason=reason) for one in self.attachments]
        for shard in worker.shards:
            self._shaped.ended(shard)
        for shard, stanza in [key for key in self._holders if key[0] in worker.shards]:
            self._lender.lost(self._holders.pop((shard, stanza)))
        for shard, throttle in [key for key in self._drawing if key[0] in worker.shards]:
            self._throttles.lost(self._drawing.pop((shard, throttle)))

    async def answer(self, worker: Worker, request: object) -> object:
        """Answer a call of a worker."""
        match request:
            case HandOver(owner=owner, accept=accept):
                bus = self._workers[owner].reach
                if bus is None:
                    raise OutboxAway(f"worker {owner} is being started")
                return await bus.call(accept, msgspec.Raw)
            case AskAll(question=question):
                return await self._ask_all(question)
            case Move(address=address, to=to):
                sink = self._sinks.get(worker)
                refusal = None if sink is None else self.acceptor.move(sink, address, to)
                return Verdict(None if refusal is None else (refusal.code, refusal.enhanced, refusal.text))
            case MakeDomain(made=made, pem=pem):
                return await self._make(made, pem)
            case Retired(shard=shard):
                await self.eventlog.remove(str(shard))
                worker.retired(shard)
                self._shaped.ended(shard)
                return Nothing()
        raise TypeError(f"not a call of a worker: {request!r}")

    async def _ask_all(self, question: FindStanding | FindKey) -> MaybeStanding | MaybeKnown:
        nothing = MaybeStanding(None) if isinstance(question, FindStanding) else MaybeKnown(None)
        reached = [worker.reach for worker in self._workers if worker.reach is not None]
        answers = await asyncio.gather(*(bus.call(question, type(nothing)) for bus in reached), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, MaybeStanding | MaybeKnown) and answer.found is not None:
                return answer
        if len(reached) < len(self._workers) or any(isinstance(answer, BaseException) for answer in answers):
            raise OutboxAway("a worker is being started")
        return nothing

    def noticed(self, worker: Worker, notice: object) -> None:
        """Take a notice of a worker."""
        match notice:
            case Events(shard=shard):
                self.eventlog.wake(str(shard))
            case Left(address=address):
                if (sink := self._sinks.get(worker)) is not None:
                    self.acceptor.left(sink, address)
            case Wanted(shard=shard, stanza=stanza):
                self._lender.want(stanza, self._holder(worker, shard, stanza))
            case GivenBack(shard=shard, stanza=stanza):
                self._lender.give_back(stanza, self._holder(worker, shard, stanza))
            case PermitsWanted(shard=shard, throttle=throttle, count=count):
                self._throttles.ask(throttle, self._drawer(worker, shard, throttle), count)
            case PermitsUnused(shard=shard, throttle=throttle, count=count):
                self._throttles.give_back(throttle, self._drawer(worker, shard, throttle), count)
            case Attached(attachments=attachments):
                self.attachments = attachments
            case RuleMatched() | Succeeded() | RulesLifted():
                self._shaped.heard(notice)
            case Gossip():
                for other in self._workers:
                    if other is not worker and other.reach is not None:
                        other.reach.tell(notice)

    def _holder(self, worker: Worker, shard: int, stanza: str) -> RemoteHolder:
        holder = self._holders.get((shard, stanza))
        if holder is None:
            holder = self._holders[shard, stanza] = RemoteHolder(shard, stanza, lambda: worker.bus)
        return holder

    def _drawer(self, worker: Worker, shard: int, throttle: str) -> RemotePermitHolder:
        holder = self._drawing.get((shard, throttle))
        if holder is None:
            holder = self._drawing[shard, throttle] = RemotePermitHolder(shard, throttle, lambda: worker.bus)
        return holder
