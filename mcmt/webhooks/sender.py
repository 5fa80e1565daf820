"""One webhook's events on their way: a batch at a time, in order, each until it was taken (answers.py).

A batch is begun when it is full, or ``batch_wait`` after there was something to send. A repeat has the same body and
the same ``webhook-id``, over restarts and crashes: it was marked on disk before it was sent first.

Rules: lives on the event loop, with a task of its own, so that webhooks wait for no one; the store is used in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from mcmt.clock import Clock, Timer
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.errors import SpoolError
from mcmt.spool.webhook_events import Batch, StoredWebhookEvents
from mcmt.webhooks.answers import Answer, Verdict, judge, pause
from mcmt.webhooks.receiver import Receiver
from mcmt.webhooks.signature import Signer
from mcmt.webhooks.status import WebhookStatus

_REMINDER = 3600.0
"""Seconds between two warnings of the same trouble."""


class Sender:
    """Of one webhook, from ``start`` to ``stop``. *tell* takes one line for stderr."""

    def __init__(
        self,
        settings: WebhookSettings,
        store: StoredWebhookEvents,
        clock: Clock,
        draw: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self._store = store
        self._clock = clock
        self._draw = draw
        self._tell = tell
        self._signer = Signer(settings.secret)
        self._receiver = Receiver(settings, clock)
        self._size = settings.batch_size
        # Smaller from a 413 on: whoever asks for that wants it the next time too.
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._batch: Batch | None = None
        self._taken = 0
        """Number of the last event that was taken and is not let go of yet."""
        self._row = 0
        """Failures in a row."""
        self._failures = 0
        self._reason = ""
        self._off = False
        self._due: float | None = None
        self._hurried = False
        self._stopping = False
        self._told_at = float("-inf")

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"webhook {self.settings.name}")

    def wake(self) -> None:
        """There are more events."""
        self._news.set()

    def hurry(self) -> None:
        """Try now, also where it was switched off."""
        self._hurried = True
        self._news.set()

    async def stop(self, limit: float) -> None:
        """Send what waits while it is taken at once, for *limit* seconds at most; the rest stays on disk."""
        self._stopping = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=limit)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._receiver.close()

    def status(self) -> WebhookStatus:
        """How it fares."""
        standing = self._store.standing(self.settings.name)
        return WebhookStatus(
            name=self.settings.name,
            host=self._receiver.host,
            state="off" if self._off else "down" if self._reason else "up",
            reason=self._reason,
            events=standing.events,
            bytes=standing.bytes,
            oldest=0.0 if self._batch is None else max(0.0, self._clock.time() - self._batch.oldest),
            sent=standing.sent,
            dropped=standing.dropped,
            failures=self._failures,
            next=None if self._due is None else max(0.0, self._due - self._clock.monotonic()),
        )

    async def _run(self) -> None:
        while True:
            try:
                if self._batch is None:
                    self._batch = await self._next()
                if self._batch is not None:
                    await self._send(self._batch)
                elif self._stopping:
                    return
            except SpoolError as error:
                self._failed(str(error))
                await self._rest(self.settings.retry_interval)
            except Exception as error:  # a bug of ours: the events are on disk, and the others go on
                self._failed(f"[internal] {error!r}")
                await self._rest(self.settings.max_retry_interval)
            if self._stopping and self._row:
                return

    async def _next(self) -> Batch | None:
        """The next batch, when there is one. None: the engine stops, or what there was has gone."""
        name, store = self.settings.name, self._store
        if self._taken:
            # With what it costs to let go of the last one the next is begun, where it would be full.
            full = store.standing(name).events >= 2 * self._size
            batch = await asyncio.to_thread(store.next, name, self._taken, self._size if full else 0)
            self._taken = 0
            if batch is not None:
                return batch
        while not store.standing(name).events:
            if self._stopping:
                return None
            self._news.clear()
            await self._news.wait()
        if not store.standing(name).sending:
            await self._rest(self.settings.batch_wait, lambda: store.standing(name).events >= self._size)
        return await asyncio.to_thread(store.next, name, 0, self._size)

    async def _send(self, batch: Batch) -> None:
        name = self.settings.name
        body = _body(batch)
        fields = self._signer.fields(f"{name}-{batch.first}-{batch.last}", int(self._clock.time()), body)
        answer = await self._receiver.post(body, fields)
        match judge(answer.status):
            case Verdict.TAKEN:
                self._succeeded()
                self._taken, self._batch = batch.last, None
            case Verdict.OFF:
                await self._switched_off(answer)
            case Verdict.SMALLER if len(batch.lines) > 1:
                self._size = max(1, len(batch.lines) // 2)
                self._batch = await asyncio.to_thread(self._store.again, name, self._size)
            case _:
                await self._later(answer)
        if self._batch is not None and self._store.floor(name) >= self._batch.first:
            self._batch = None  # the queue is over its limit, and it was the oldest

    async def _later(self, answer: Answer) -> None:
        self._row += 1
        wait = pause(self._row, self.settings.retry_interval, self.settings.max_retry_interval, self._draw)
        wait = max(wait, answer.retry_after)
        self._failed(answer.text, f"; its events wait on disk, and are sent again in {max(1.0, wait):.0f} s")
        if not self._stopping:
            await self._rest(wait)

    async def _switched_off(self, answer: Answer) -> None:
        self._row += 1
        self._off = True
        self._told_at = float("-inf")
        self._failed(answer.text, " (gone) and is switched off: change its url or remove it, then mcmt reload")
        while not self._hurried and not self._stopping:
            self._news.clear()
            await self._news.wait()
        self._hurried = self._off = False

    def _succeeded(self) -> None:
        if self._reason:
            self._tell(f"webhook {self.settings.name}: takes events again")
        self._row, self._reason, self._told_at = 0, "", float("-inf")

    def _failed(self, why: str, outcome: str = "") -> None:
        self._failures += 1
        self._row = max(1, self._row)
        self._reason = why
        now = self._clock.monotonic()
        if now - self._told_at >= _REMINDER:
            self._told_at = now
            self._tell(f"webhook {self.settings.name}: {self._receiver.host}: {why}{outcome}")

    async def _rest(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Wait so long, or until there is *enough*, or somebody is in a hurry."""
        over = False

        def end() -> None:
            nonlocal over
            over = True
            self._news.set()

        timer: Timer = self._clock.call_later(seconds, end)
        self._due = self._clock.monotonic() + seconds if self._row else None
        try:
            while not (over or enough() or self._hurried or self._stopping):
                self._news.clear()
                await self._news.wait()
        finally:
            timer.cancel()
            self._hurried, self._due = False, None


def _body(batch: Batch) -> bytes:
    """The body of a request: the same for the same batch."""
    newest = datetime.fromtimestamp(batch.newest, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    head = f'{{"type":"mcmt.events","timestamp":"{newest}","data":['.encode()
    return head + b",\n".join(batch.lines) + b"]}"
