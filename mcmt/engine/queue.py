"""The queue of one domain: pulls what is due, offers it to connections, judges what they answer.

Rules:
* Connections pull. The queue offers what is ready; what is not taken stays ready, in order. Nothing is
  pulled from the spool beyond ``max_resident_active_queue``, and only a handful while no connection is
  warm, so a dead domain costs memory for that handful whatever its backlog.
* A delivery is resident from the pull until its verdict is on disk.
* It never sleeps and never scans: it runs when something happened (a commit, an answer, a timer).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from mcmt.channel.port import Channel, State
from mcmt.clock import Clock, Timer
from mcmt.config.settings import DomainSettings
from mcmt.engine.link import Link
from mcmt.engine.links import UNTIL_ANSWERED, Links
from mcmt.engine.residency import Residency
from mcmt.engine.settler import Settler
from mcmt.engine.steady_time import SteadyTime
from mcmt.engine.verdict import EXPIRED, KEPT, judge
from mcmt.errors import SpoolError
from mcmt.message.event import Event, Kind
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome
from mcmt.spool.port import Settlement, Spool

log = logging.getLogger(__name__)

PULL_LIMIT = 500
"""Deliveries a pull; the queue is refilled when fewer than this are ready."""
PULL_BYTES = 8 * 1024**2
"""Bytes of bodies a pull: what one queue may hold of large messages at a time."""
PULL_COLD = 50
"""Deliveries pulled while no connection is warm: enough to see that one is wanted."""
OFFER_LIMIT = 1000
"""Deliveries offered at a time: as many as one connection to Apple has streams."""


class Shared(msgspec.Struct, frozen=True):
    """What every queue of an engine works with."""

    spool: Spool
    settler: Settler
    residency: Residency
    clock: Clock
    steady: SteadyTime
    random: Callable[[], float]


class DomainQueue:
    """One domain's deliveries, from due to settled."""

    def __init__(self, domain: str, settings: DomainSettings, channel: Channel, state: State, shared: Shared) -> None:
        self.domain = domain
        self._settings = settings
        self._shared = shared
        self._clock = shared.clock
        self._links = Links(settings, channel, state, self, shared.clock, shared.random, self._tell)
        self._ready: deque[Delivery] = deque()
        self._resident = 0
        self._more_due = True
        self._next_due: float | None = None
        self._pulling: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._stopped = settings.suspend_delivery

    # -- what happens to it -----------------------------------------------------------------------------------

    def due(self) -> None:
        """The spool has deliveries of this domain that are due."""
        self._more_due = True
        self.pump()

    def tick(self) -> None:
        """Once a second: idle connections, ends of life, jumps of the clock."""
        self._note_due()
        self._links.close_idle()
        now = self._shared.steady.now()
        if any(delivery.expires <= now for delivery in self._ready):
            self._ready = deque(self._living(list(self._ready)))
        self.pump()

    def pump(self) -> None:
        """Move what can move: ready to connections, spool to ready; a new connection if all are full."""
        if self._stopped:
            return
        for link in tuple(self._links.all):
            if not self._ready:
                break
            self._offer(link)
        self._refill()

    async def drain(self, limit: float) -> None:
        """Send nothing more, let connections answer for up to *limit* seconds, close them."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pulling is not None:
            await asyncio.wait([self._pulling])
        await self._links.drain(limit)

    @property
    def idle(self) -> bool:
        """Nothing is resident, connected, under way or waited for: it can be forgotten."""
        return not (self._resident or self._links.all or self._more_due) and self._next_due is None

    def snapshot(self) -> dict[str, object]:
        """What ``mcmt status`` says of it."""
        health = self._links.health
        state = "down" if health.down else "up"
        if health.fault:
            state = "suspended by a route fault"
        if self._settings.suspend_delivery:
            state = "suspended by suspend_delivery"
        return {
            "domain": self.domain,
            "channel": self._settings.delivery_method,
            "route": self._links.route,
            "state": state,
            "reason": health.fault or health.down,
            "connections": len(self._links.all),
            "in_flight": self._links.in_flight,
            "ready": len(self._ready),
            "resident": self._resident,
        }

    # -- the LinkOwner ----------------------------------------------------------------------------------------

    def answered(self, link: Link, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Judge a burst of outcomes: settle what was tried, keep what was not."""
        now = self._clock.time()
        settlements: list[Settlement] = []
        events: list[Event] = []
        kept: list[tuple[Delivery, Outcome]] = []
        worked = False
        for delivery, outcome in batch:
            if outcome.disposition in KEPT:
                kept.append((delivery, outcome))
                continue
            worked = worked or outcome.disposition is not Disposition.AMBIGUOUS
            verdict = judge(delivery, outcome, self._settings, now, self._shared.random)
            settlements.append(verdict.settlement)
            events.extend(verdict.events)
        if settlements:
            self._shared.settler.add(settlements, events, self._settled)
        if worked:
            link.health.answered()
        if kept:
            self._keep(link, kept, worked=worked)

    def has_room(self, link: Link) -> None:
        """Offer to this connection alone: nothing has changed for the others."""
        if self._stopped:
            return
        if self._ready:
            self._offer(link)
        self._refill()

    def ended(self, link: Link, reason: str) -> None:
        """A connection is gone; another may be wanted."""
        self._links.forget(link, reason)
        self.pump()

    def _keep(self, link: Link, kept: Sequence[tuple[Delivery, Outcome]], *, worked: bool) -> None:
        """What was not processed goes back to the front, and the route hears of it."""
        self._ready.extendleft(delivery for delivery, _ in reversed(kept))
        faults = [outcome for _, outcome in kept if outcome.disposition is Disposition.ROUTE_FAULT]
        refusals = [outcome for _, outcome in kept if outcome.disposition is Disposition.REFUSED]
        wait = max((outcome.retry_after for outcome in refusals), default=0.0)
        if refusals and (wait or not worked):
            link.health.refused(_reason(refusals[0]), wait)
        if faults:
            link.health.faulted(_reason(faults[0]))
        # Not at once: the connection that reports may be in the middle of its own work.
        self._look_again(0.0)

    # -- sending ----------------------------------------------------------------------------------------------

    def _offer(self, link: Link) -> None:
        while self._ready and link.usable:
            if link.spent:
                link.close(UNTIL_ANSWERED)
                return
            if (delay := link.health.send_delay()) > 0:
                self._look_again(delay)
                return
            limit = OFFER_LIMIT
            if link.health.probing:
                limit = 0 if self._links.in_flight else 1
            batch = self._take(limit)
            if not batch:
                return
            taken = link.send(batch)
            if taken < len(batch):
                self._ready.extendleft(reversed(batch[taken:]))
                if not link.spent:
                    return

    def _take(self, limit: int) -> list[Delivery]:
        """The first deliveries off the ready queue, those that still live."""
        ready = self._ready
        batch = list(islice(ready, limit))
        if len(batch) == len(ready):
            ready.clear()
        else:
            for _ in batch:
                ready.popleft()
        return self._living(batch)

    def _living(self, batch: list[Delivery]) -> list[Delivery]:
        """Those whose life has not ended; the others are failed."""
        now = self._shared.steady.now()
        dead = [delivery for delivery in batch if delivery.expires <= now]
        if not dead:
            return batch
        self._shared.settler.fail(dead, EXPIRED, self._settings, self._clock.time(), self._settled)
        return [delivery for delivery in batch if delivery.expires > now]

    def _settled(self, settlements: Sequence[Settlement]) -> None:
        """They are on disk: their places are free, and what is due again is waited for."""
        self._leave(len(settlements))
        dues = [settlement.retry_at for settlement in settlements if settlement.retry_at is not None]
        if dues:
            self._wait_for(min(dues))
        if not self._stopped:
            self._refill()

    # -- pulling ----------------------------------------------------------------------------------------------

    def _refill(self) -> None:
        """Pull when few are ready; ask for a connection when some are ready and none takes them."""
        warm = self._links.warm
        if self._more_due and not self._pulling and len(self._ready) < (PULL_LIMIT if warm else 1):
            wanted = min(PULL_LIMIT if warm else PULL_COLD, self._settings.max_resident_active_queue - self._resident)
            wanted = self._shared.residency.enter(wanted, self._resident)
            if wanted > 0:
                self._resident += wanted
                self._more_due = False
                self._pulling = asyncio.get_running_loop().create_task(self._pull(wanted), name=f"pull {self.domain}")
        if self._ready:
            delay = self._links.open_if_wanted()
            if delay is not None:
                self._look_again(delay)

    async def _pull(self, wanted: int) -> None:
        got = 0
        try:
            pulled = await self._shared.spool.pull(self.domain, self._clock.time(), wanted, PULL_BYTES)
            got = len(pulled.deliveries)
            self._ready.extend(pulled.deliveries)
            if pulled.next_due is not None:
                self._wait_for(pulled.next_due)
            elif got == wanted:
                self._more_due = True
        except SpoolError as error:
            log.error("%s: nothing can be read from the spool: %s", self.domain, error)
            self._wait_for(self._clock.time() + 1.0)
        finally:
            self._pulling = None
            self._leave(wanted - got)
        self.pump()

    def _leave(self, count: int) -> None:
        self._resident -= count
        self._shared.residency.leave(count)

    # -- waiting ----------------------------------------------------------------------------------------------

    def _wait_for(self, due: float) -> None:
        if self._next_due is None or due < self._next_due:
            self._next_due = due
        self._note_due()

    def _note_due(self) -> None:
        """See whether what was waited for is due; else have the queue look again when it is."""
        if self._next_due is None:
            return
        delay = self._next_due - self._clock.time()
        if delay <= 0:
            self._next_due = None
            self._more_due = True
        else:
            self._look_again(delay)

    def _look_again(self, delay: float) -> None:
        """Pump in *delay* seconds, or earlier if that was asked for already. One timer a domain."""
        if self._stopped:
            return
        at = self._clock.monotonic() + delay
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.call_later(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._note_due()
        self.pump()

    def _tell(self, route: str, news: str, reason: str) -> None:
        log.warning("%s: route %s is %s: %s", self.domain, route, news, reason)
        self._shared.settler.record(
            Event(
                kind=Kind.ROUTE,
                time=self._clock.time(),
                channel=self._settings.delivery_method,
                domain=self.domain,
                phase=news,
                text=f"{route}: {reason}",
            )
        )


def _reason(outcome: Outcome) -> str:
    return f"{outcome.code} {outcome.text}".strip()
