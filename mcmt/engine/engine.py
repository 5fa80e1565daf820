"""The engine: one queue a domain, one settler, one tick a second.

It learns of due deliveries from the spool, gives each to its domain's queue, ends the lives of those
whose time is up wherever they lie, and drains within a limit. A whole engine runs on one spool shard;
several of them share nothing but what is behind their ports.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from mcmt.channel.port import Channel, State
from mcmt.clock import Clock, Timer
from mcmt.config.patterns import is_pattern
from mcmt.config.rules import Rule
from mcmt.config.settings import DomainSettings, Settings
from mcmt.config.shaped import pool_of
from mcmt.config.throttle import throttles
from mcmt.engine.allowance import Allowances
from mcmt.engine.bouncer import Bouncer
from mcmt.engine.hands import Handled, Hands, Work
from mcmt.engine.leases import Leases
from mcmt.engine.lender import Lender, Lending
from mcmt.engine.mismatch_guard import MismatchGuard
from mcmt.engine.news import News, Tell, tell_nobody
from mcmt.engine.queue import DomainQueue
from mcmt.engine.residency import Residency
from mcmt.engine.rule_watch import RuleWatch
from mcmt.engine.rulings import SCOPE, Ruling, Rulings, Shaping
from mcmt.engine.settler import Settler
from mcmt.engine.shaper import Shaper
from mcmt.engine.shared import Shared
from mcmt.engine.steady_time import SteadyTime
from mcmt.engine.suspensions import Suspension, Suspensions
from mcmt.engine.throttles import Granting, Throttles
from mcmt.engine.verdict import EXPIRED, storable
from mcmt.errors import ControlError, SpoolError
from mcmt.message.event import Event, Kind
from mcmt.spool.port import Arrived, Selection, Spool
from mcmt.wire.trace import Tracing

log = logging.getLogger(__name__)

TICK = 1.0
MAX_GUARDS = 10_000
"""Domains with nothing to do whose mismatch guards are remembered; past that the one that rested first is forgotten."""
EXPIRY_LIMIT = 500
"""Deliveries failed as expired, or by a rule, a transaction."""


class Engine:
    """What is due, who may send, and what became of it."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        channels: Mapping[str, Channel],
        state: Callable[[str], State],
        clock: Clock,
        random: Callable[[], float],
        random_bits: Callable[[int], int] = secrets.randbits,
        lender: Lending | None = None,
        granting: Granting | None = None,
        tell: Tell = tell_nobody,
        tracing: Tracing | None = None,
        shaping: Shaping | None = None,
    ) -> None:
        """*lender*: who lends connections to all engines of the machine, *granting*: who grants permits of its
        throttles, *shaping*: who counts what its rules match; None: this is the only one. *tell*: the other engines,
        what this one has learned."""
        self._settings = settings
        self._channels = channels
        self._states = {name: state(name) for name in channels}
        self._suspensions = Suspensions(state("engine"))
        self._rulings = Rulings(state(SCOPE), settings)
        self._shaping = shaping or Shaper(settings, state(SCOPE), clock)
        self._clock = clock
        self._shared = Shared(
            spool,
            Settler(spool),
            Residency(settings.max_resident_messages // settings.workers),
            clock,
            SteadyTime(clock),
            random,
            Allowances(granting or Throttles(throttles(settings), clock)),
            RuleWatch(self._rulings, self._shaping, self),
            tell,
            tracing,
        )
        if tracing is not None:
            tracing.on_change(self._retrace)
        self._hands = Hands(settings, channels, self._shared, self._queue_of)
        self._bouncer = Bouncer(settings, spool, channels, clock, random_bits)
        self._queues: dict[str, DomainQueue] = {}
        self._lender = lender or Lender(settings.connections_of, clock)
        self._leases: dict[str, Leases] = {}
        self._guards: dict[str, MismatchGuard] = {}
        self._homeless: set[str] = set()
        self._timer: Timer | None = None
        self._expiring: asyncio.Task[None] | None = None
        self._failing: set[asyncio.Task[None]] = set()
        self._draining = False

    async def start(self) -> None:
        """Begin with what the spool holds."""
        self._shaping.join(self)
        self._shared.spool.on_due(self._due)
        for domain in await self._shared.spool.domains():
            if queue := self._queue_of(domain):
                queue.due()
        self._timer = self._clock.call_later(TICK, self._tick)

    def reload(self, settings: Settings) -> None:
        """Go on by other settings: domains whose stanza has changed over new connections, the others untouched."""
        self._settings = settings
        self._rulings.reload(settings)
        self._hands.reload(settings)
        self._bouncer.reload(settings)
        self._shared.residency.limit = settings.max_resident_messages // settings.workers
        for domain, queue in self._queues.items():
            now = self._rulings.settings(domain)
            if now is None:
                queue.abandon()
                self._tell_homeless(domain)
            elif now != queue.settings or domain in self._homeless:
                method = now.delivery_method
                queue.reload(now, self._channels[method], self._states[method], self._leases_of(now, domain))
                self._shape(queue, now)
        housed = {domain for domain in self._homeless if settings.domain(domain) is not None}
        self._homeless -= housed
        for domain in housed:
            if (back := self._queue_of(domain)) is not None:
                back.due()

    async def drain(self, limit: float) -> None:
        """Send nothing more, wait up to *limit* seconds for answers, write what became of them."""
        self._draining = True
        self._shaping.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(queue.drain(limit) for queue in self._queues.values()))
        try:
            async with asyncio.timeout(max(limit, 1.0)):
                if self._expiring is not None:
                    await asyncio.wait([self._expiring])
                if self._failing:
                    await asyncio.wait(tuple(self._failing))
                await self._hands.drain()
                await self._bouncer.drain()
                await self._shared.settler.flush()
        except TimeoutError:
            log.error("the spool took no more results before the end: those deliveries will be sent again")

    def snapshot(self) -> list[dict[str, object]]:
        """What ``mcmt status`` says of every domain that has something to do."""
        return [self._queues[domain].snapshot() for domain in sorted(self._queues)]

    def suspend(self, domain: str, reason: str, *, until: float = 0.0, tell: bool = True) -> None:
        """Stop sending to *domain* until it is resumed, also over restarts. Raises ControlError.

        *until*: seconds since the epoch, when it is resumed by itself; 0: never. *tell*: the logs; one engine of the
        machine does.
        """
        self._known(domain)
        self._suspensions.add(domain, reason, self._clock.time(), until)
        if queue := self._queues.get(domain):
            queue.suspend(reason)
        if tell:
            self._tell(domain, "suspended", f"by hand: {reason}")

    def resume(self, domain: str, *, trust: bool = False, tell: bool = True) -> None:
        """Send to *domain* again, whatever suspended it; *trust*: believe whom it refuses. Raises ControlError."""
        self._refuse_if_configured(self._known(domain), domain)
        if self._suspensions.remove(domain) and tell:
            self._tell(domain, "resumed", "by hand")
        if self._rulings.end(domain):
            self._reshape(domain)
        self._shaping.resumed(domain)
        if queue := self._queue_of(domain):
            queue.resume(trust=trust)

    def retry(self, domain: str) -> None:
        """Try now what waits in *domain*'s queue. Raises ControlError."""
        self._refuse_if_configured(self._known(domain), domain)
        if suspension := self._suspensions.of(domain):
            raise ControlError(f"{domain} is suspended ({suspension.reason}): mcmt domain resume {domain}")
        if reason := self._rulings.suspension(domain):
            raise ControlError(f"{domain} is suspended by rule {reason}: mcmt domain resume {domain}")
        if queue := self._queue_of(domain):
            queue.retry()

    async def by_hand(self, work: Work, chosen: Mapping[int, str]) -> Handled:
        """Carry out *work* on rows, each with the domain it had. Raises SpoolError, ControlError."""
        return await self._hands.carry_out(work, chosen)

    def heard(self, news: News) -> None:
        """What another engine of the machine has learned. Of a domain with nothing to do here nothing is kept."""
        if queue := self._queues.get(news.domain):
            queue.heard(news)
        elif (guard := self._guards.get(news.domain)) and news.kind in ("accepted", "refused"):
            guard.heard(news.kind, news.text)

    def _guard_news(self, domain: str) -> Callable[[Literal["accepted", "refused"], str], None]:
        return lambda kind, token: self._shared.tell(News(kind, domain, text=token))

    def suspended(self) -> dict[str, Suspension]:
        """The domains that an operator has suspended."""
        return self._suspensions.all()

    def ruled(self, domain: str) -> Sequence[tuple[Ruling, Rule]]:
        """The rules in force at *domain*, in the order of the file."""
        return self._rulings.ordered(domain)

    @property
    def ruled_domains(self) -> Collection[str]:
        """Where rules are in force."""
        return self._rulings.domains

    # -- mcmt.engine.rulings.ShapedEngine ---------------------------------------------------------------------------

    def rule_began(self, ruling: Ruling, *, new: bool, tell: bool) -> None:
        """See ShapedEngine."""
        rule = self._rulings.begin(ruling)
        if tell and rule is not None:
            lasting = f"for {rule.duration:g} s" if rule.duration else "until it is resumed"
            self._tell(ruling.domain, "rule_began", f"{ruling.rule}: {rule.effect}, {lasting}: {ruling.reason}")
        if rule is None or self._draining:
            return
        self._reshape(ruling.domain)
        if new and rule.fail == "queue":
            task = asyncio.get_running_loop().create_task(self._fail_queue(ruling.domain, rule), name="fail queue")
            self._failing.add(task)
            task.add_done_callback(self._failing.discard)

    def rule_ended(self, ruling: Ruling, why: str, *, tell: bool) -> None:
        """See ShapedEngine."""
        if tell:
            self._tell(ruling.domain, "rule_ended", f"{ruling.rule}: {why}")
        known = self._rulings.of(ruling.domain).get(ruling.rule)
        if known is not None and known[0].since == ruling.since:
            self._rulings.end(ruling.domain, ruling.rule)
            self._reshape(ruling.domain)

    def rule_counts(self, domain: str) -> None:
        """See ShapedEngine."""
        self._rulings.await_success(domain)

    def _reshape(self, domain: str) -> None:
        queue, now = self._queues.get(domain), self._rulings.settings(domain)
        if queue is None or now is None or self._draining:
            return
        if pool_of(now, domain) != pool_of(queue.settings, domain):
            method = now.delivery_method
            queue.reload(now, self._channels[method], self._states[method], self._leases_of(now, domain))
        self._shape(queue, now)

    def _shape(self, queue: DomainQueue, now: DomainSettings) -> None:
        queue.links.shape(now)
        suspended = storable(self._rulings.suspension(queue.domain))
        queue.shape(now, suspended, failing=bool(self._rulings.failing(queue.domain)))

    async def _fail_queue(self, domain: str, rule: Rule) -> None:
        """End what is queued for *domain* now, but for what an operator holds."""
        selection, spool = Selection(domain=domain, held=False), self._shared.spool
        work = Work("bounce", said=f"failed by rule {rule.name}")
        try:
            through, after = (await spool.tally(selection, 0, 0)).through, 0
            while not self._draining:
                chosen = await spool.choose(selection, after, through, EXPIRY_LIMIT)
                if chosen.domains:
                    await self._hands.carry_out(work, chosen.domains)
                if chosen.after is None:
                    return
                after = chosen.after
        except SpoolError as error:
            log.error("%s: rule %s cannot fail all that is queued: %s", domain, rule.name, error)

    @staticmethod
    def _refuse_if_configured(settings: DomainSettings, domain: str) -> None:
        if settings.suspend_delivery:
            raise ControlError(f"{domain} is suspended by suspend_delivery in the configuration: change it there")

    def _known(self, domain: str) -> DomainSettings:
        if is_pattern(domain):
            raise ControlError(
                f'"{domain}" is a stanza and not a domain: name each of its domains (mcmt status lists them)'
            )
        settings = self._settings.domain(domain)
        if settings is None:
            raise ControlError(f"there is no stanza for {domain} under domain: in {self._settings.file}")
        return settings

    def _tell(self, domain: str, news: str, reason: str) -> None:
        log.warning("%s: %s: %s", domain, news.replace("_", " "), reason)
        self._shared.settler.record(
            Event(kind=Kind.ROUTE, time=self._clock.time(), domain=domain, phase=news, text=reason)
        )

    @property
    def resident(self) -> int:
        """Deliveries in memory, over all domains."""
        return self._shared.residency.count

    @property
    def stuck(self) -> bool:
        """The spool refuses what became of deliveries: nothing is sent until it takes it."""
        return self._shared.settler.stuck

    def _due(self, arrived: Mapping[str, Arrived]) -> None:
        if self._draining:
            return
        for domain, deliveries in arrived.items():
            if queue := self._queue_of(domain):
                queue.arrived(deliveries)

    def _queue_of(self, domain: str) -> DomainQueue | None:
        return self._queues.get(domain) or self._queue_for(domain)

    def _queue_for(self, domain: str) -> DomainQueue | None:
        settings = self._rulings.settings(domain)
        if settings is None:
            self._tell_homeless(domain)
            return None
        method = settings.delivery_method
        leases = self._leases_of(settings, domain)
        guard = self._guards.pop(domain, None) or MismatchGuard(self._clock, self._guard_news(domain))
        queue = DomainQueue(domain, settings, self._channels[method], self._states[method], leases, guard, self._shared)
        if suspension := self._suspensions.of(domain):
            queue.suspend(suspension.reason)
        if self._rulings.of(domain):
            self._shape(queue, settings)
        self._queues[domain] = queue
        return queue

    def _leases_of(self, settings: DomainSettings, domain: str) -> Leases:
        pool = pool_of(settings, domain)
        return self._leases.setdefault(pool, Leases(pool, self._lender))

    def _retrace(self, domain: str) -> None:
        if queue := self._queues.get(domain):
            queue.links.retrace()

    def _tell_homeless(self, domain: str) -> None:
        if domain not in self._homeless:
            self._homeless.add(domain)
            log.warning(
                "the spool holds deliveries for %s, which has no stanza under domain: any more; "
                "they stay until they expire, or the stanza is put back (mcmt reload)",
                domain,
            )

    def _settings_of(self, domain: str) -> DomainSettings:
        """The domain's stanza; for one that lost it, what suffices to end its deliveries."""
        return self._settings.domain(domain) or DomainSettings(name=domain, delivery_method="", routes=(), options=None)

    def _tick(self) -> None:
        self._timer = self._clock.call_later(TICK, self._tick)
        for domain, queue in list(self._queues.items()):
            queue.tick()
            if queue.idle:
                self._forget(domain)
        for leases in self._leases.values():
            leases.tidy()
        for domain, told_here in self._suspensions.over(self._shared.steady.now()):
            if told_here:
                self._tell(domain, "resumed", "its suspension was until now")
            if (resumed := self._queue_of(domain)) is not None:
                resumed.resume()
        self._bouncer.tick()
        if self._expiring is None and not self._shared.settler.stuck:
            self._expiring = asyncio.get_running_loop().create_task(self._expire(), name="expire")

    def _forget(self, domain: str) -> None:
        guard = self._queues.pop(domain).guard
        if guard.remembers:
            self._guards[domain] = guard
            if len(self._guards) > MAX_GUARDS:
                del self._guards[next(iter(self._guards))]

    async def _expire(self) -> None:
        """Fail what lies in the spool past its end, a bounded number at a time."""
        try:
            while not self._draining:
                dead = await self._shared.spool.pull_expired(self._shared.steady.now(), EXPIRY_LIMIT)
                for domain in {delivery.domain for delivery in dead}:
                    mine = [delivery for delivery in dead if delivery.domain == domain]
                    self._shared.settler.fail(mine, EXPIRED, self._settings_of(domain), self._clock.time())
                if len(dead) < EXPIRY_LIMIT:
                    return
                await self._shared.settler.flush()
        except SpoolError as error:
            log.error("nothing can be expired: %s", error)
        finally:
            self._expiring = None
