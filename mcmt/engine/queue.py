"""The queue of one domain: pulls what is due, offers it to connections, judges what they answer.

Rules:
* Connections pull. The queue offers what is ready, the most urgent first (ready.py); what is not taken stays
  ready, in order. Nothing is pulled from the spool beyond ``max_resident_active_queue``, and only a handful
  while no connection is warm, so a dead domain costs memory for that handful whatever its backlog (places.py).
* A delivery is resident from the pull until its verdict is on disk.
* What is due is due by steady time, as it was scheduled: a clock that was wrong for a while puts nothing off.
* It never sleeps and never scans: it runs when something happened (a commit, an answer, a timer).
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence

from mcmt.channel.port import Channel, State
from mcmt.config.settings import DomainSettings
from mcmt.engine.alarm import Alarm
from mcmt.engine.answers import Answers
from mcmt.engine.complaint import Complaint
from mcmt.engine.halts import Halts
from mcmt.engine.herald import Herald
from mcmt.engine.leases import Leases
from mcmt.engine.link import Link
from mcmt.engine.links import UNTIL_ANSWERED, Links
from mcmt.engine.mismatch_guard import MismatchGuard
from mcmt.engine.news import News
from mcmt.engine.pace import Pace
from mcmt.engine.places import PULL_BYTES, Places
from mcmt.engine.ready import Ready
from mcmt.engine.replacing import Replacing
from mcmt.engine.retry import JITTER
from mcmt.engine.shared import Shared
from mcmt.engine.urgency import Urgency
from mcmt.engine.verdict import EXPIRED, NO_PART
from mcmt.errors import SpoolError
from mcmt.message.model import Delivery
from mcmt.message.priority import BULK
from mcmt.message.status import Outcome
from mcmt.spool.port import Arrived, Settlement

OFFER_LIMIT = 1000
"""Deliveries offered at a time: as many as one connection to Apple has streams."""


class DomainQueue:
    """One domain's deliveries, from due to settled."""

    def __init__(
        self,
        domain: str,
        settings: DomainSettings,
        channel: Channel,
        state: State,
        leases: Leases,
        guard: MismatchGuard,
        shared: Shared,
    ) -> None:
        self.domain = domain
        self.guard = guard
        self._renders = channel.MEDIA_TYPES
        self.settings = settings
        self._shared = shared
        self._clock = shared.clock
        news = Herald(domain, settings, shared).tell
        self._pace = Pace(settings, shared.allowances, shared.steady.now, self.pump)
        self.links = Links(domain, settings, channel, state, self, leases, self._pace, shared, news)
        self._ready = Ready()
        self._places = Places(self._ready, shared.residency, self._release)
        self._more_due = True
        self._urgency = Urgency(self._pace)
        self._next_due: float | None = None
        self._pulling: asyncio.Task[None] | None = None
        self._alarm = Alarm(shared.clock, self._rung)
        self._answers = Answers(domain, settings, shared, guard, self._settled)
        self._answers.not_before = lambda: self._horizon
        self._unreadable = Complaint(shared.clock)
        self._halts = Halts(settings)
        self._replacing = Replacing(domain, shared, self._ready, self._settled)
        self._horizon = 0.0
        """While an operator's retry goes on: what is due up to here is sent now, and tried again only after it."""

    # -- what happens to it -----------------------------------------------------------------------------------

    def due(self, *, try_route: bool = False) -> None:
        """The spool has deliveries of this domain that are due; *try_route*: also if it is backed off."""
        if try_route:
            self.links.try_now()
        self._more_due = True
        self._urgency.changed()
        self.pump()

    def arrived(self, arrived: Arrived) -> None:
        """Deliveries were accepted just now: what there is room for is taken as it is, the rest is due in the spool."""
        if arrived.superseded:
            self._replacing.replace(arrived.superseded, self.settings)
        if not (self._halts.stopped or self._pulling):
            self._take_over(arrived)
        if arrived.highest is not None:
            self._more_due = True
            self._urgency.came(arrived.highest)
        if arrived.next_due is not None:
            self._wait_for(arrived.next_due)
        self.pump()

    def tick(self) -> None:
        """Once a second: idle connections, ends of life, answers held long enough, jumps of the clock."""
        self._note_due()
        self._answers.believe_overdue()
        self.links.close_idle()
        self._urgency.tick()
        if not self._places.taken:
            self._replacing.forget()
        now = self._shared.steady.now()
        if any(delivery.expires <= now for delivery in self._ready):
            everything = list(self._ready)
            self._ready.clear()
            self._ready.extend(self._living(everything))
        self.pump()

    def suspend(self, reason: str) -> None:
        """Send nothing more; what was not sent yet goes back, what is on the wire may still be answered."""
        self._halts.by_hand = reason
        self._put_back()

    def reload(self, settings: DomainSettings, channel: Channel, state: State, leases: Leases) -> None:
        """Go on by other settings: what is on the wire is answered where it is, all else goes over new connections."""
        self.settings = self._answers.settings = self._halts.settings = settings
        self._renders = channel.MEDIA_TYPES
        self._halts.homeless = False
        self._put_back()
        self.links.reload(settings, channel, state, leases, Herald(self.domain, settings, self._shared).tell)
        self._pace.reload(settings)
        self.guard.reset()
        self._look_again(0.0)

    def shape(self, settings: DomainSettings, suspended: str, *, failing: bool) -> None:
        """Rules have begun or ended: *settings* with what they set, *suspended*: why they suspend the domain."""
        self.settings = self._answers.settings = self._halts.settings = settings
        self._answers.failing, self._halts.by_rule = failing, suspended
        self._pace.reload(settings)
        if suspended:
            self._put_back()
        self._look_again(0.0)

    def abandon(self) -> None:
        """No stanza serves the domain any more: as if suspended, until there is one again."""
        self._halts.homeless = True
        self._put_back()
        self.links.leave()
        self._pace.leave()

    def _put_back(self) -> None:
        self._release(list(self._ready))
        self._places.leave(len(self._ready))
        self._ready.clear()
        self._urgency.changed()

    def _release(self, deliveries: Sequence[Delivery]) -> None:
        self._shared.spool.release([delivery.row for delivery in deliveries])
        self._more_due = True

    def resume(self, *, trust: bool = False) -> None:
        """Send again, forgetting what spoke against the route; *trust*: and believe whom it refuses."""
        self._halts.by_hand = ""
        self.links.forgive()
        if trust:
            self._answers.guard.trust()
        else:
            self._answers.guard.reset()
        self.due()

    def retry(self) -> None:
        """Try now what waits for its time, and the route if it is backed off. Each delivery once."""
        self._horizon = self._shared.steady.now() + self.settings.max_retry_interval * (1 + JITTER)
        self.due(try_route=True)

    def hand_over(self, rows: Container[int]) -> list[Delivery]:
        """Of *rows*, what is ready and was not sent: out still, and not this queue's any more."""
        handed = self._ready.remove(rows)
        self._places.leave(len(handed))
        return handed

    def pump(self) -> None:
        """Move what can move: ready to connections, spool to ready; a new connection if all are full."""
        if self._halts.stopped:
            return
        for link in tuple(self.links.all):
            if not self._ready:
                break
            self._offer(link)
        self._refill()

    async def drain(self, limit: float) -> None:
        """Send nothing more, let connections answer for up to *limit* seconds, close them."""
        self._halts.draining = True
        self._alarm.cancel()
        if self._pulling is not None:
            await asyncio.wait([self._pulling])
        await self._replacing.drain()
        await self.links.drain(limit)

    @property
    def idle(self) -> bool:
        """Nothing is resident, connected, under way or waited for: it can be forgotten."""
        waits = not self._halts.homeless and (self._more_due or self._next_due is not None)
        return not (self._places.taken or self.links.all or waits)

    def snapshot(self) -> dict[str, object]:
        """What ``mcmt status`` says of it."""
        state, reason = self._halts.state(self.links.health, self._pace)
        return {
            "domain": self.domain,
            "channel": self.settings.delivery_method,
            "route": self.links.route,
            "state": state,
            "reason": reason,
            "connections": len(self.links.all),
            "in_flight": self.links.in_flight,
            "ready": len(self._ready),
            "resident": self._places.taken,
            "held": self._answers.guard.held,
        }

    # -- the LinkOwner ----------------------------------------------------------------------------------------

    def answered(self, link: Link, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Have a burst of outcomes judged; what stays due is ready again."""
        front, end = self._answers.take(link.health, batch)
        if front or end:
            self._ready.put_back(front)
            self._ready.extend(end)
            if self._halts.held_back:
                self._put_back()
            # Not at once: the connection that reports may be in the middle of its own work.
            self._look_again(0.0)

    def has_room(self, link: Link) -> None:
        """Offer to this connection alone: nothing has changed for the others."""
        if not self._halts.stopped:
            self._offer(link)
            self._refill()

    def ended(self, link: Link, reason: str) -> None:
        """A connection is gone; another may be wanted."""
        self.links.forget(link, reason)
        self.pump()

    def may_connect(self) -> bool:
        """Whether deliveries wait for a connection; then one is asked for."""
        wanted = bool(self._ready) and not self._halts.stopped
        if wanted:  # not at once: whoever gave the connection back is in the middle of its own work
            self._look_again(0.0)
        return wanted

    # -- sending ----------------------------------------------------------------------------------------------

    def _offer(self, link: Link) -> None:
        while self._ready and link.usable:
            if link.spent:
                link.close(UNTIL_ANSWERED)
                return
            if self._shared.settler.stuck:
                return  # the tick asks again
            if (delay := link.health.send_delay()) > 0:
                self._look_again(delay)
                return
            limit = OFFER_LIMIT
            if link.health.probing:
                limit = 0 if self.links.in_flight_on(link.health) else 1
            lowest = self._pace.lowest
            allowed = self._pace.may_start(min(limit, self._ready.count(lowest)))
            if not allowed:
                return
            batch = self._living(self._ready.take(allowed, lowest))
            taken = link.send(batch) if batch else 0
            self._pace.not_started(allowed - taken)
            self._ready.sent(batch, taken)
            if taken < len(batch) and not link.spent:
                return

    def _living(self, batch: Sequence[Delivery]) -> Sequence[Delivery]:
        """Those whose life has not ended, and that nothing has replaced; the others are failed."""
        batch = self._replacing.sort_out(batch, self.settings)
        now = self._shared.steady.now()
        dead = [delivery for delivery in batch if delivery.expires <= now]
        if not dead:
            return batch
        self._shared.settler.fail(dead, EXPIRED, self.settings, self._clock.time(), self._settled)
        return [delivery for delivery in batch if delivery.expires > now]

    def _settled(self, settlements: Sequence[Settlement]) -> None:
        """They are on disk: their places are free, and what is due again is waited for."""
        self._places.leave(len(settlements))
        self._replacing.settle(settlements, self.settings)
        dues = [settlement.retry_at for settlement in settlements if settlement.retry_at is not None]
        if dues:
            self._wait_for(min(dues))
        if not self._halts.stopped:
            self._refill()

    # -- pulling ----------------------------------------------------------------------------------------------

    def _refill(self) -> None:
        """Pull when few are ready; ask for a connection when some are ready and none takes them."""
        if self._more_due and not self._pulling:
            wanted, lowest = self._make_room(self._urgency.highest)
            if wanted > 0:
                self._more_due = lowest > BULK  # of the others some may be due as before
                self._urgency.pulling(lowest)
                pull = self._pull(wanted, lowest)
                self._pulling = asyncio.get_running_loop().create_task(pull, name=f"pull {self.domain}")
        if self._ready.count(self._pace.lowest):
            delay = self.links.open_if_wanted()
            if delay is not None:
                self._look_again(delay)

    def _take_over(self, arrived: Arrived) -> None:
        """Take what was accepted just now, as much as a pull would bring; where others are due, what overtakes them."""
        wanted, lowest = self._make_room(
            BULK if arrived.highest is None else arrived.highest, all_of_it=not self._more_due
        )
        if wanted > 0:
            taken = arrived.take(wanted, PULL_BYTES, lowest)
            self._ready.extend(self._carried(taken))
            self._places.leave(wanted - len(taken))

    def _make_room(self, urgent: int, *, all_of_it: bool = True) -> tuple[int, int]:
        """Places for the deliveries of one pull, and their lowest priority; 0: the queue holds enough. *urgent*: that
        of those that need not wait for what is ready of lower ones."""
        warm = self.links.warm
        wanted = self._places.make(self.settings, BULK, warm=warm) if all_of_it else 0
        if wanted > 0 or urgent == BULK:
            return wanted, BULK
        return self._places.make(self.settings, urgent, warm=warm), urgent

    async def _pull(self, wanted: int, lowest: int) -> None:
        got = 0
        try:
            now = max(self._shared.steady.now(), self._horizon)
            pulled = await self._shared.spool.pull(self.domain, now, wanted, PULL_BYTES, lowest)
            got = len(pulled.deliveries)
            self._ready.extend(self._carried(self._replacing.pulled(pulled.deliveries, self.settings)))
            self._urgency.pulled(lowest, full=got == wanted)
            if lowest == BULK and got < wanted and (pulled.next_due is None or pulled.next_due > self._horizon):
                self._horizon = 0.0  # the retry that was asked for has reached everything
            if lowest > BULK or got == wanted or (pulled.next_due is not None and pulled.next_due <= now):
                self._more_due = True
            elif pulled.next_due is not None:
                self._wait_for(pulled.next_due)
        except SpoolError as error:
            self._unreadable.tell("%s: nothing can be read from the spool, and it is tried on: %s", self.domain, error)
            self._wait_for(self._shared.steady.now() + 1.0)
        finally:
            self._pulling = None
            self._places.leave(wanted - got)
            if self._halts.held_back:
                self._put_back()
        self.pump()

    def _carried(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Those whose part the channel renders; the others are failed."""
        foreign = [one for one in deliveries if self._renders and one.part.media_type not in self._renders]
        if not foreign:
            return deliveries
        self._shared.settler.fail(foreign, NO_PART, self.settings, self._clock.time(), self._settled)
        return [one for one in deliveries if one.part.media_type in self._renders]

    def _wait_for(self, due: float) -> None:
        self._next_due = due if self._next_due is None else min(due, self._next_due)
        self._note_due()

    def _note_due(self) -> None:
        """See whether what was waited for is due; else have the queue look again when it is."""
        if self._next_due is None:
            return
        delay = self._next_due - self._shared.steady.now()
        if delay <= 0:
            self._next_due = None
            self._more_due = True
            self._urgency.changed()  # past what a curfew holds back
        else:
            self._look_again(delay)

    def _look_again(self, delay: float) -> None:
        if not self._halts.stopped:
            self._alarm.within(delay)

    def _rung(self) -> None:
        self._note_due()
        self.pump()

    def heard(self, news: News) -> None:
        """What another engine of the machine has learned of this domain."""
        if news.kind == "accepted" or news.kind == "refused":
            self.guard.heard(news.kind, news.text)
        else:
            self.links.heard(news)
            self._look_again(0.0)
