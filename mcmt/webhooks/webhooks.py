"""All webhooks: what the event log reads is kept for those that take it, and each is sent its own.

It is an EventTable (mcmt/eventlog/outbox.py): its file has the events before the event log remembers that it has read
them, so none is lost over a crash, and none is kept twice. What a receiver does concerns its own queue alone.

Without a webhook, and where there never was one, nothing is opened, and an event costs nothing.

Rules: ``take`` and ``save`` in the event log's thread, everything else on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from mcmt.clock import Clock
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.errors import SpoolError
from mcmt.eventlog.outbox import EventTable
from mcmt.message.event import OutboxRow
from mcmt.spool.webhook_events import FILE, Owed, StoredWebhookEvents, names_of
from mcmt.webhooks.selection import Selection
from mcmt.webhooks.sender import Sender
from mcmt.webhooks.status import WebhookStatus

STOPPING = 5.0
"""Seconds that the last requests may take when the engine stops."""
_CHANGING = 1.0
"""The same when a webhook is changed or removed: what is cut off comes again under the same id."""


class Webhooks:
    """``EventTable`` in front of another one."""

    def __init__(
        self,
        behind: EventTable,
        folder: Path,
        clock: Clock,
        draw: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        """*folder*: the spool's. *draw*: a number from 0 to 1. *tell* takes one line for stderr, from any thread."""
        self._behind = behind
        self._folder = folder
        self._clock = clock
        self._draw = draw
        self._tell = tell
        self._lock = Lock()
        self._store: StoredWebhookEvents | None = None
        self._selections: dict[str, Selection] = {}
        self._limits: dict[str, int] = {}
        self._dropping: set[str] = set()
        self._read: dict[str, int] = {}
        self._owed: list[Owed] = []
        self._senders: dict[str, Sender] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- mcmt.eventlog.outbox.EventTable ------------------------------------------------------------------------------

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        """See EventTable."""
        if rows and self._store is not None:
            with self._lock:
                self._take(shard, rows)
        self._behind.take(shard, rows)

    def save(self) -> None:
        """See EventTable."""
        self._behind.save()
        store = self._store
        if store is None or not self._owed:
            return
        with self._lock:
            dropped = store.add(self._owed, self._read, self._limits)
            names, self._owed = names_of(self._owed), []
            limits = dict(self._limits)
        for name in dropped.keys() - self._dropping:
            self._tell(
                f"webhook {name}: more than {limits[name]} bytes of events wait (max_queue_size), and the oldest are "
                "dropped from now on; mcmt status counts them"
            )
        self._dropping = {name for name in self._dropping | dropped.keys() if self._is_full(store, name, limits)}
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake, names)

    def _take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        read = self._read.get(shard, 0)
        for row in rows:
            if row.sequence <= read:
                continue
            for number, event in enumerate(row.events):
                for name, selection in self._selections.items():
                    line = selection.line(event, f"{shard}-{row.sequence}-{number}")
                    if line is not None:
                        self._owed.append(Owed(name, event.time, line))
        self._read[shard] = max(read, rows[-1].sequence)

    @staticmethod
    def _is_full(store: StoredWebhookEvents, name: str, limits: dict[str, int]) -> bool:
        # One warning for one time of trouble, which is over when half of it was taken.
        return store.standing(name).bytes > limits.get(name, 0) // 2

    # -- on the event loop --------------------------------------------------------------------------------------------

    async def open(self, settings: Sequence[WebhookSettings]) -> None:
        """Take events for these from now on. Raises SpoolUnusable, SpoolError."""
        self._loop = asyncio.get_running_loop()
        await self.prepare(settings)
        await self._swap(settings)

    async def prepare(self, settings: Sequence[WebhookSettings]) -> None:
        """Open what these need. Raises SpoolUnusable, SpoolError: then nothing has changed."""
        if self._store is None and (settings or (self._folder / FILE).exists()):
            store = await asyncio.to_thread(StoredWebhookEvents.open, self._folder, self._clock.time())
            self._read = dict(await asyncio.to_thread(store.progress))
            self._store = store

    def start(self) -> None:
        """Begin to send."""
        for sender in self._senders.values():
            sender.start()

    async def reload(self, settings: Sequence[WebhookSettings]) -> None:
        """Go on by these, which ``prepare`` was called for; all are tried at once."""
        before = dict(self._senders)
        try:
            await self._swap(settings)
        except SpoolError as error:
            self._tell(f"the webhooks stay as they were until the next reload: {error}")
            return
        for name, sender in self._senders.items():
            if before.get(name) is sender:
                sender.hurry()
            else:
                sender.start()

    async def stop(self) -> None:
        """Send what is taken at once, for STOPPING seconds at most; the rest stays on disk."""
        await asyncio.gather(*(sender.stop(STOPPING) for sender in self._senders.values()))
        self._senders = {}
        if self._store is not None:
            await asyncio.to_thread(self._store.close)
            self._store = None

    def status(self) -> Sequence[WebhookStatus]:
        """How each of them fares."""
        return tuple(sender.status() for sender in self._senders.values())

    async def _swap(self, settings: Sequence[WebhookSettings]) -> None:
        store = self._store
        if store is None:
            return
        wanted = {one.name: one for one in settings}
        gone = await asyncio.to_thread(self._select, store, wanted)
        ended = [sender for name, sender in self._senders.items() if wanted.get(name) != sender.settings]
        await asyncio.gather(*(sender.stop(_CHANGING) for sender in ended))
        with suppress(SpoolError):  # it is nobody's any more: what is left goes at the next start
            while not await asyncio.to_thread(store.sweep):
                pass
        for name, events in gone.items():
            self._tell(f"webhook {name}: is no more, and {events} events that waited for it are dropped")
        kept = {name: one for name, one in self._senders.items() if one not in ended}
        self._senders = {
            name: kept.get(name) or Sender(one, store, self._clock, self._draw, self._tell)
            for name, one in wanted.items()
        }

    def _select(self, store: StoredWebhookEvents, wanted: dict[str, WebhookSettings]) -> dict[str, int]:
        selections = {name: Selection(one) for name, one in wanted.items()}
        with self._lock:
            gone = dict(store.name(wanted.keys()))
            self._selections = selections
            self._limits = {name: one.max_queue_size for name, one in wanted.items()}
        return gone

    def _wake(self, names: Iterable[str]) -> None:
        for name in names:
            if (sender := self._senders.get(name)) is not None:
                sender.wake()
