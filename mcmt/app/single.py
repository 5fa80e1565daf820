"""The engine in one process: ``workers: 1``.

Order of starting: spool, event log, engine, doors, control; stopping is the reverse, within
``drain_timeout``, so that nothing is taken that cannot be kept, and whatever was done is written before
the end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mcmt.app.closing import Closing
from mcmt.app.making import LettingGo, Making, remove_leftovers
from mcmt.app.rehash import SCOPE, rehashed
from mcmt.app.reloading import Reloading
from mcmt.app.shards import Shards, adopted
from mcmt.channel.port import Channel
from mcmt.clock import Clock, SystemClock
from mcmt.config.load import Loaded
from mcmt.config.made_settings import MadeDomain
from mcmt.config.settings import Settings
from mcmt.config.sources import Content
from mcmt.control.protocol import Reloaded
from mcmt.control.server import ControlServer
from mcmt.control.station import Station
from mcmt.engine.feedback import Readers
from mcmt.engine.lender import Lender
from mcmt.engine.rulings import SCOPE as RULES
from mcmt.engine.shaper import Shaper
from mcmt.engine.throttles import Throttles
from mcmt.errors import ControlError
from mcmt.eventlog.loggers import build_loggers
from mcmt.eventlog.tally import Tally
from mcmt.eventlog.writer import EventLogWriter
from mcmt.intake.doors import Doors
from mcmt.intake.pyapns.provisioning import SCOPE as PROVISIONED
from mcmt.intake.sockets import Bind, bind_all
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.monitor.server import MonitorServer
from mcmt.spool.folder import FolderLock, prepare_folder
from mcmt.spool.gone_tokens import StoredGoneTokens, StoredTokenTable
from mcmt.spool.log_memory import StoredLogMemory
from mcmt.spool.shard_files import shards_in
from mcmt.spool.state import StateStore
from mcmt.spool.stored_registrations import StoredRegistrations
from mcmt.telemetry.status import TelemetryStatus
from mcmt.telemetry.telemetry import Telemetry
from mcmt.webhooks.status import WebhookStatus
from mcmt.webhooks.webhooks import Webhooks

log = logging.getLogger(__name__)


class App:
    """One engine with everything around it, on one spool."""

    tokens: StoredTokenTable
    tally: Tally
    monitor: MonitorServer
    shards: Shards
    eventlog: EventLogWriter
    doors: Doors
    registrations: StoredRegistrations | None = None
    attachments: Sequence[Attachment] = ()

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        content: Content | None = None,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
        bind: Bind = bind_all,
        begin_again: Callable[[], None] = lambda: None,
    ) -> None:
        """*content*: of the configuration, for domains to be made; None: it is not known, and none is. *bind*: gives
        the sockets that are listened on. *begin_again*: see Shards."""
        self._begin_again = begin_again
        self.settings = settings
        self._channels = channels
        self._clock = clock or SystemClock()
        self._draw = draw
        self._bind = bind
        self._closing = Closing()
        self._last = Closing()
        """Closed when everything else is but the lock: to the end whoever asks is told that the engine stops."""
        self._stopping = False
        self._makes = content is not None
        self._reloading = Reloading(channels, content or Content({}))

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
        self.tokens = StoredTokenTable.create(folder, clock)
        self._closing.add(lambda: asyncio.to_thread(self.tokens.close))
        self._webhooks = Webhooks(self.tokens, folder, clock, self._draw, log.warning)
        self._closing.add(self._webhooks.stop)
        await self._webhooks.open(settings.webhooks)
        self._telemetry = Telemetry(self._webhooks, settings.opentelemetry, settings.hostname, log.warning)
        self._closing.add(self._telemetry.stop)
        self.tally = Tally(self._telemetry, settings.exact_domains, settings.monitor.max_metric_domains)
        self._shaper = shaper = Shaper(settings, state.scope(RULES), clock, self._granted)
        self._closing.add(self._close_shaper)
        self._lender = lender = Lender(shaper.connections_of, clock)
        self._throttles = granting = Throttles(shaper.throttles(), clock)
        self.shards = Shards(
            settings,
            self._channels,
            state,
            lambda _: lender,
            lambda _: granting,
            clock,
            self._draw,
            begin_again=self._begin_again,
            shaping=lambda _: shaper,
        )
        self._closing.add(self.shards.close)
        found = shards_in(folder)
        self.shards.rehashed = rehashed(state.scope(SCOPE), 1, clock.time(), begun=bool(found))
        for number in (0, *adopted(found, 0, 1)):
            await self.shards.open(number)
        own = self.shards.own
        self.eventlog = EventLogWriter(StoredLogMemory(state), build_loggers(settings), clock, log.error, self.tally)
        self.monitor = MonitorServer(settings, self, self.eventlog, clock)
        for shard in self.shards.all:
            self.eventlog.add(str(shard.number), shard.spool)
            shard.spool.on_events(partial(self.eventlog.wake, str(shard.number)))
        await self.eventlog.start()
        self._closing.add(self.eventlog.stop)
        self._webhooks.start()
        await self.shards.run(self._retired)
        self._closing.add(self.shards.drain)
        # On a connection of its own: the one that writes them is held while the disk is waited for.
        gone_tokens = await asyncio.to_thread(StoredGoneTokens.open, folder)
        self._closing.add(lambda: asyncio.to_thread(gone_tokens.close))
        feedback = state.scope("feedback")
        self._readers = Readers(settings, self._channels, own.spool, gone_tokens, feedback, clock, self._draw)
        self._readers.start()
        self._closing.add(self._readers.stop)
        if settings.xmpp:
            self.registrations = await asyncio.to_thread(StoredRegistrations.open, folder)
            self._closing.add(partial(asyncio.to_thread, self.registrations.close))
        self.doors = Doors(
            settings,
            self._channels,
            own.spool,
            clock,
            secrets.randbits,
            gone_tokens=gone_tokens,
            bind=self._bind,
            tracker=self.shards,
            provisioned=state.scope(PROVISIONED),
            tracing=self.shards.tracing,
            jobs=own.spool.tracker,
            registrations=self.registrations,
            watch=self._attached,
            make=self._make if self._makes else None,
        )
        own.station.sources = lambda: self.doors.sources
        await self.doors.start()
        self._closing.add(lambda: self.doors.drain(self.settings.drain_timeout))
        self._control = ControlServer(self.settings, self, self.eventlog, clock)
        await self._control.start()
        self._closing.add(self._control.close)
        self._last.add(self.monitor.close)
        await self.monitor.start()
        self._closing.add(self.monitor.drain)

    def _attached(self, attachments: Sequence[Attachment]) -> None:
        self.attachments = attachments

    def _granted(self) -> None:
        self._lender.reload(self._shaper.connections_of)
        self._throttles.reload(self._shaper.throttles())

    async def _close_shaper(self) -> None:
        self._shaper.close()

    async def _retired(self, number: int) -> None:
        await self.eventlog.remove(str(number))

    async def stop(self) -> None:
        """Stop taking, drain within ``drain_timeout``, write the rest, let go of the spool."""
        self._stopping = True
        await self._closing.close()

    async def reopen_logs(self) -> None:
        """The log files may have been renamed: write to what their paths name now."""
        await self.eventlog.reopen()

    async def reload(self, *, check: bool) -> Reloaded:
        """See Front."""
        return await self._reloading.reload(lambda: self.settings, self._swap, check=check)

    async def let_go_of(self, domain: str) -> None:
        """See Front."""
        await self._reloading.alter(lambda: self.settings, self._swap, LettingGo(domain))

    async def _make(self, made: MadeDomain, pem: bytes) -> None:
        """See mcmt.intake.pyapns.Make."""
        await self._reloading.alter(lambda: self.settings, self._swap, Making(made, pem, self._channels))

    async def _swap(self, loaded: Loaded, settings: Settings, check: bool) -> None:  # noqa: ARG002 - workers read it
        if not check:
            await self._webhooks.prepare(settings.webhooks)
            await self._telemetry.prepare(settings.opentelemetry)
        prepared = self.doors.prepare(settings)
        loggers = build_loggers(settings)
        if check:
            return
        await self.eventlog.reload(loggers)
        if self._stopping:
            raise ControlError("the engine stops")
        # Nothing from here to the last line of these can fail, and nothing else runs meanwhile.
        self.settings = settings
        self._shaper.reload(settings)
        self._granted()
        self.shards.reload(settings)
        self.doors.reload(prepared)
        self._control.reload(settings)
        self.monitor.reload(settings)
        await self._readers.reload(settings)
        await self._webhooks.reload(settings.webhooks)
        await self._telemetry.reload(settings.opentelemetry)

    # -- mcmt.control.front.Front ---------------------------------------------------------------------------------

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where SMTP is listened for."""
        return self.doors.addresses

    @property
    def listening(self) -> Sequence[tuple[str, str, int]]:
        """What is spoken on which host and port."""
        return self.doors.listening

    @property
    def sessions(self) -> int:
        """Clients connected."""
        return self.doors.sessions

    @property
    def stations(self) -> Sequence[Station]:
        """Every shard, with its engine."""
        return [shard.station for shard in self.shards.all]

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
        """The process that delivers."""
        return (os.getpid(),)

    @property
    def missing(self) -> Sequence[str]:
        """None: there is one process."""
        return ()

    @property
    def restarts(self) -> int:
        """None: there is one process."""
        return 0
