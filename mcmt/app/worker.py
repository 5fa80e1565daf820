"""The engine in several processes: one worker, which takes, keeps and sends on a shard of its own.

It has no socket, no log and no control of its own: connections, questions and the lender's grants come from the
supervisor (supervisor.py), over the descriptors that it was started with. It ends when the supervisor does.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import random
import secrets
import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from mcmt.app.begin_again import end
from mcmt.app.parts import load_channels, load_settings
from mcmt.app.passed import Passed
from mcmt.app.serve import prepare_process
from mcmt.app.shards import Shard, Shards
from mcmt.clock import SystemClock
from mcmt.config.changes import changes_between
from mcmt.config.made_settings import MadeDomain
from mcmt.config.sources import Content
from mcmt.engine.feedback import Readers
from mcmt.engine.news import News
from mcmt.errors import BusLost, ControlError, McmtError, MessageError
from mcmt.intake.beanstalkd.source import Deal, tubes_of
from mcmt.intake.doors import Doors, PreparedDoors
from mcmt.intake.failures import Login
from mcmt.intake.pyapns.provisioning import SCOPE as PROVISIONED
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.spool.gone_tokens import StoredGoneTokens
from mcmt.spool.state import StateStore
from mcmt.spool.stored_registrations import StoredRegistrations
from mcmt.wire.trace import Tracing
from mcmt.workers.bus import Bus
from mcmt.workers.life_words import Begin, Drain, Ping, Prepare, Stop, Swap
from mcmt.workers.owners import HandingOver, Owners
from mcmt.workers.passing import Receiver
from mcmt.workers.remote import RemoteGrantings, RemoteLending
from mcmt.workers.rule_words import RuleBegan, RuleCounts, RuleEnded
from mcmt.workers.shaping import RemoteShapings
from mcmt.workers.tracking import WorkersTracker, ask_for_key
from mcmt.workers.words import (
    Accept,
    AcceptOnce,
    Acknowledge,
    Act,
    Attached,
    CountAnswers,
    Counted,
    CountSelected,
    DoWork,
    EndTrace,
    Entries,
    Events,
    FetchTrace,
    Find,
    FindKey,
    FindStanding,
    Gossip,
    Granted,
    Ids,
    ListIds,
    Look,
    MakeDomain,
    MaybeKnown,
    MaybeStanding,
    Note,
    Nothing,
    Permitted,
    ReadOutbox,
    ReadPage,
    Recalled,
    Retired,
    Rows,
    ToWorker,
    Verdict,
    raw,
)

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def die_with(supervisor: int) -> None:
    """Be killed when the process *supervisor*, our parent, ends; be told nothing by signals meant for it.

    A terminal's Ctrl-C and systemd's stop reach every process of the group: when to drain is the supervisor's word.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it has ended before we asked
        os._exit(1)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)


class WorkerApp:
    """One worker, from ``Begin`` to ``Stop``."""

    shards: Shards
    doors: Doors

    def __init__(self, connections: socket.socket) -> None:
        self._connections = connections
        self._clock = SystemClock()
        self._tracing = Tracing(self._clock)
        self._bus = Bus(ToWorker, self._answer, self._noticed, self._ended)
        self._lending: dict[int, RemoteLending] = {}
        self._granting = RemoteGrantings(self._bus)
        self._shaping = RemoteShapings(self._bus)
        self._readers: Readers | None = None
        self._prepared: PreparedDoors | None = None
        self._preparing = asyncio.Lock()
        self._taking: set[asyncio.Task[None]] = set()
        self._told: set[int] = set()
        """Shards whose outboxes the supervisor knows to have rows, and has not read since."""
        self._over = asyncio.Event()

    async def run(self, bus: socket.socket) -> None:
        """Serve the supervisor at the other end of *bus* until it says stop, or is gone."""
        await self._bus.open(bus)
        await self._over.wait()

    def _ended(self) -> None:
        self._over.set()

    # -- what the supervisor asks -----------------------------------------------------------------------------------

    async def _answer(self, request: object) -> object:
        match request:
            case Begin():
                await self._begin(request)
            case Prepare():
                await self._prepare(request.content)
            case Swap():
                await self._swap()
            case Accept():
                await self.shards.own.spool.accept(
                    request.message, request.deliveries, request.events, request.failures
                )
            case AcceptOnce(once=once, accept=given):
                return await self.shards.accept_once(
                    once, given.message, given.deliveries, given.events, given.failures
                )
            case FindStanding():
                return MaybeStanding(await self.shards.standing(request.batch_id, request.after, request.limit))
            case FindKey():
                return MaybeKnown(await self.shards.known_by_key(request.key))
            case ReadOutbox():
                self._told.discard(request.shard)
                rows = await self._shard(request.shard).spool.read_outbox(request.after, request.limit)
                return Rows(tuple(rows))
            case Acknowledge():
                await self._shard(request.shard).spool.acknowledge(request.through)
            case Look():
                return await self._shard(request.shard).station.look()
            case Act():
                return await self._shard(request.shard).station.act(request.action(), tell=request.tell)
            case ReadPage():
                station = self._shard(request.shard).station
                return Entries(tuple(await station.page(request.selection, request.after, request.limit)))
            case ListIds():
                return Ids(await self._shard(request.shard).station.ids(request.after, request.limit))
            case CountSelected():
                return await self._shard(request.shard).station.tally(request.selection, request.after, request.through)
            case CountAnswers():
                return Counted(dict(await self._shard(request.shard).station.answers(request.domain)))
            case DoWork():
                station = self._shard(request.shard).station
                return await station.work(request.work, request.selection, request.after, request.through)
            case Find():
                found = await self._shard(request.shard).station.find(request.id)
                return Entries(tuple((0, entry) for entry in found))
            case Note():
                await self._shard(request.shard).station.note(request.domain, request.text)
            case FetchTrace():
                return await self._shard(request.shard).station.fetch_trace(request.watch)
            case Ping():
                pass
            case Drain():
                await self._drain()
            case Stop():
                await self._stop()
            case _:
                raise TypeError(f"not a call of the supervisor: {request!r}")
        return Nothing()

    def _noticed(self, notice: object) -> None:
        match notice:
            case Granted() | Recalled():
                if (lending := self._lending.get(notice.shard)) is not None:
                    lending.heard(notice)
            case Permitted():
                self._granting.heard(notice)
            case RuleBegan() | RuleEnded() | RuleCounts():
                self._shaping.heard(notice)
            case EndTrace():
                self._tracing.end(notice.number)
            case Gossip():
                self._hear(notice)

    def _shard(self, number: int) -> Shard:
        for shard in self.shards.all:
            if shard.number == number:
                return shard
        raise BusLost(f"shard {number} is not served here any more")

    # -- its life ---------------------------------------------------------------------------------------------------

    async def _begin(self, begin: Begin) -> None:
        channels = self._channels = load_channels()
        file = Path(begin.config)
        settings = load_settings(file, channels, begin.content, open_files=begin.reloaded is None).settings
        deal = Deal(begin.number, settings.workers, tubes_of(settings.beanstalkd))
        components = begin.number == 0 and settings.xmpp  # a component is connected once
        if begin.reloaded is not None:
            settings = changes_between(
                settings, load_settings(file, channels, begin.reloaded, open_files=False).settings
            ).settings
        self._settings = settings
        prepare_process(settings)
        state = StateStore.open(settings.spool.path)
        self._tracing.worker = begin.number
        self.shards = Shards(
            settings,
            channels,
            state,
            self._lend,
            self._granting.of,
            self._clock,
            random.random,
            self._gossip,
            end,
            self._tracing,
            self._shaping.of,
        )
        self.shards.rehashed, self.shards.ask_for_key = begin.rehashed, partial(ask_for_key, self._bus)
        for number in (begin.number, *begin.adopted):
            shard = await self.shards.open(number)
            shard.spool.on_events(partial(self._tell_events, number))
        await self.shards.run(self._retired)
        own = self.shards.own.spool
        self._keeper = HandingOver(own, begin.number, Owners(settings), self._bus)
        gone_tokens = StoredGoneTokens.open(settings.spool.path)
        registrations = None
        if components:
            registrations = StoredRegistrations.open(settings.spool.path)
        if begin.number == 0:  # one reader in the machine
            self._readers = Readers(
                settings, channels, own, gone_tokens, state.scope("feedback"), self._clock, random.random
            )
            self._readers.start()
        self.doors = Doors(
            settings,
            channels,
            self._keeper,
            self._clock,
            secrets.randbits,
            self._gossip,
            gone_tokens,
            listens=False,
            tracker=WorkersTracker(self.shards, begin.number, settings.workers, self._bus),
            provisioned=state.scope(PROVISIONED),
            tracing=self._tracing,
            jobs=own.tracker,
            deal=deal,
            registrations=registrations,
            watch=self._attached,
            make=self._make,
        )
        self.shards.own.station.sources = lambda: self.doors.sources
        await self.doors.start()
        self._receiver = Receiver(self._connections, self._take)

    async def _make(self, made: MadeDomain, pem: bytes) -> None:
        """See mcmt.intake.pyapns.Make."""
        answer = await self._bus.call(MakeDomain(made, pem), Verdict)
        if answer.refusal is not None:
            raise MessageError(*answer.refusal)

    async def _prepare(self, content: Content) -> None:
        async with self._preparing:  # what is asked last is what is swapped to
            file, channels = self._settings.file, self._channels
            # Certificates and keys were looked into by the supervisor, as far as it had to.
            loaded = await asyncio.to_thread(load_settings, file, channels, content, open_files=False)
            self._prepared = self.doors.prepare(changes_between(self._settings, loaded.settings).settings)

    async def _swap(self) -> None:
        if self._prepared is None:
            raise ControlError("it has begun since, by the old configuration")
        prepared, self._prepared = self._prepared, None
        settings = self._settings = prepared.settings
        self.shards.reload(settings)
        self.doors.reload(prepared)
        self._keeper.owners = Owners(settings)
        if self._readers is not None:
            await self._readers.reload(settings)

    async def _drain(self) -> None:
        self._receiver.close()
        if self._readers is not None:
            await self._readers.stop()
        await self.doors.drain(self._settings.drain_timeout)
        await self.shards.drain()

    async def _stop(self) -> None:
        await self.shards.close()
        # After the answer, which is sent when this returns.
        asyncio.get_running_loop().call_later(0.0, self._over.set)

    def _gossip(self, news: News | Login) -> None:
        self._bus.tell(Gossip(raw(news)))

    def _hear(self, gossip: Gossip) -> None:
        news: News | Login = msgspec.msgpack.decode(gossip.news, type=News | Login)
        if isinstance(news, News):
            self.shards.heard(news)
        else:
            self.doors.heard(news)

    def _attached(self, attachments: Sequence[Attachment]) -> None:
        self._bus.tell(Attached(tuple(attachments)))

    def _lend(self, shard: int) -> RemoteLending:
        self._lending[shard] = RemoteLending(shard, self._bus)
        return self._lending[shard]

    def _tell_events(self, shard: int) -> None:
        if shard not in self._told:
            self._told.add(shard)
            self._bus.tell(Events(shard))

    async def _retired(self, number: int) -> None:
        await self._bus.call(Retired(number), Nothing)

    def _take(self, number: int, connected: socket.socket, address: str, refusal: MessageError | None) -> None:
        begin = self._begin_session(number, connected, Passed(self._bus, address, refusal))
        task = asyncio.get_running_loop().create_task(begin, name="session")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _begin_session(self, number: int, connected: socket.socket, passed: Passed) -> None:
        try:
            await self.doors.take(number, connected, passed)
        except OSError as error:  # a handshake that failed among them
            log.debug("a connection was passed on and lost: %s", error)
            connected.close()
            passed.left()


async def work(bus: socket.socket, connections: socket.socket) -> None:
    """Be a worker."""
    try:
        await WorkerApp(connections).run(bus)
    except McmtError:
        log.exception("the worker ends by a fault")
        raise
