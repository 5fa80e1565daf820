"""The components of this process: each connected to its XMPP server, and connected again when it is not any more.

After a reload a component that is gone, or changed, answers what has come and leaves; what is new connects then.

Rules: a JID is connected once, by one process of the engine; a server that is away costs one attempt now and then, and
a line a minute at most; when the engine stops, the server has all its answers before the stream ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from mcmt.clock import Clock
from mcmt.config.xmpp_settings import XmppSettings
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.reminder import Reminder
from mcmt.intake.xmpp.attachment import Attachment, Watch
from mcmt.intake.xmpp.service import Peer, PushService
from mcmt.intake.xmpp.stream import ComponentStream
from mcmt.spool.port import GoneTokens
from mcmt.spool.registration import Registrations

log = logging.getLogger(__name__)

CONNECT: Final = 20.0
"""Seconds for connecting, and for the server's word that we are its component."""
SOONEST: Final = 0.5
"""Seconds until the second attempt, about; each further one takes twice as long, up to LATEST. Short, since a server
without us may let go of subscriptions."""
LATEST: Final = 30.0
_PARTING: Final = 2.0
"""Seconds for a server to close when we have."""


class Component:
    """One of them."""

    def __init__(
        self,
        settings: XmppSettings,
        service: PushService,
        clock: Clock,
        random_bits: Callable[[int], int],
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._service = service
        self._random_bits = random_bits
        self._changed = changed
        self._reminder = Reminder(clock)
        self._task: asyncio.Task[None] | None = None
        self._stream: ComponentStream | None = None
        self._failures = 0
        self._stopping = asyncio.Event()
        self.attachment = Attachment(jid=settings.jid, place=settings.place, connected=False, reason="not tried yet")

    @property
    def settings(self) -> XmppSettings:
        """By which it is what it is."""
        return self._settings

    def start(self, before: asyncio.Task[None] | None = None) -> None:
        """Begin to connect. *before*: when that is done."""
        self._task = asyncio.get_running_loop().create_task(self._run(before), name=f"component {self._settings.jid}")

    async def drain(self, limit: float) -> None:
        """Answer what has come, within *limit* seconds; then end the stream."""
        self._stopping.set()
        await self._service.drain(limit)
        if self._stream is not None:
            self._stream.close()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_PARTING)
            if self._stream is not None:
                self._stream.end("we have stopped")
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        while not self._stopping.is_set():
            reason = await self._attend()
            self._tell(False, reason)
            if self._stopping.is_set():
                return
            if times := self._reminder.count():
                which = f"{self._settings.jid} is not connected to {self._settings.place}"
                log.warning("%s: %s (%d times)", which, reason, times)
            delay = min(LATEST, SOONEST * 2 ** min(self._failures, 10)) * (0.5 + self._random_bits(16) / 2**16)
            self._failures += 1
            try:
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    async def _attend(self) -> str:
        """Be connected for as long as that lasts; why it ended."""
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[str] = loop.create_future()
        lost: asyncio.Future[str] = loop.create_future()
        connection_id, settings = f"{self._random_bits(64):016x}", self._settings
        peer = Peer("", connection_id, lambda text: stream.say(text))
        stream = self._stream = ComponentStream(
            settings,
            lambda: None if accepted.done() else accepted.set_result(""),
            lambda stanza: self._service.take(stanza, peer),
            lambda reason: None if lost.done() else lost.set_result(reason),
        )
        try:
            async with asyncio.timeout(CONNECT):
                transport, _ = await loop.create_connection(lambda: stream, settings.host, settings.port)
                peer = peer._replace(address=transport.get_extra_info("peername")[0])
                await asyncio.wait([accepted, lost], return_when=asyncio.FIRST_COMPLETED)
            if accepted.done():
                self._failures = 0
                log.info("%s is connected to %s", settings.jid, settings.place)
                self._tell(True, "")
            return await lost
        except TimeoutError:
            return f"it did not take us within {CONNECT:g} s"
        except OSError as error:
            return error.strerror or str(error)
        finally:
            stream.end("")
            self._stream = None

    def _tell(self, connected: bool, reason: str) -> None:
        settings = self._settings
        self.attachment = Attachment(jid=settings.jid, place=settings.place, connected=connected, reason=reason)
        self._changed()


class Components:
    """All of them."""

    def __init__(
        self,
        settings: Sequence[XmppSettings],
        reception: Reception,
        memory: IntakeMemory,
        clock: Clock,
        random_bits: Callable[[int], int],
        gone_tokens: GoneTokens | None,
        registrations: Registrations,
        watch: Watch,
    ) -> None:
        self._watch = watch
        self._clock = clock
        self._random_bits = random_bits
        self._service = partial(
            PushService,
            reception=reception,
            memory=memory,
            registrations=registrations,
            gone_tokens=gone_tokens,
            clock=clock,
            random_bits=random_bits,
        )
        self._members = [self._component(one) for one in settings]
        self._leaving: dict[str, asyncio.Task[None]] = {}
        """By JID."""

    def start(self) -> None:
        """Begin to connect."""
        self._changed()
        for one in self._members:
            one.start()

    def reload(self, settings: Sequence[XmppSettings], limit: float) -> None:
        """Go on by other settings: what is gone or changed leaves within *limit* seconds, what is new connects."""
        kept = {one.settings.jid: one for one in self._members if one.settings in settings}
        for one in self._members:
            if one.settings.jid not in kept:
                self._leave(one, limit)
        self._members = [kept.get(one.jid) or self._component(one) for one in settings]
        for member in self._members:
            if member not in kept.values():
                member.start(self._leaving.get(member.settings.jid))
        self._changed()

    async def drain(self, limit: float) -> None:
        """See Component."""
        await asyncio.gather(*(one.drain(limit) for one in self._members), *self._leaving.values())

    def _leave(self, one: Component, limit: float) -> None:
        jid = one.settings.jid
        before = self._leaving.get(jid)

        async def leave() -> None:
            await one.drain(limit)
            if before is not None:
                await asyncio.wait((before,))

        def left(task: asyncio.Task[None]) -> None:
            if self._leaving.get(jid) is task:
                del self._leaving[jid]

        task = self._leaving[jid] = asyncio.get_running_loop().create_task(leave(), name=f"component {jid} left")
        task.add_done_callback(left)

    def _component(self, settings: XmppSettings) -> Component:
        return Component(settings, self._service(settings), self._clock, self._random_bits, self._changed)

    def _changed(self) -> None:
        self._watch([one.attachment for one in self._members])
