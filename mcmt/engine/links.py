"""The connections of one domain: when the next one opens, to which route, and when one closes.

The next connection opens when all open ones are warm and full, one after another, at most one a second;
never more than ``max_outbound_connections``, those that are opening or closing counted (leases.py). A route that is
new, or was down, begins with one and gets more as deliveries succeed (``connection_ramp_up``). Several routes are
failover: the first that may be tried is used, and another one only when no connection is open that may be sent to.
A route that is held is left for one that is not: its connections end in good order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from mcmt.channel.port import Channel, State
from mcmt.config.settings import DomainSettings
from mcmt.engine.leases import Leases
from mcmt.engine.link import Link, LinkOwner
from mcmt.engine.news import News
from mcmt.engine.pace import Pace
from mcmt.engine.route_health import RouteHealth
from mcmt.engine.shared import Shared
from mcmt.errors import ChannelError, RouteFaultError
from mcmt.message.route import Route

log = logging.getLogger(__name__)

SPACING = 1.0
"""Seconds between two connections of a domain being opened: many at once look like an attack to Apple."""
UNTIL_ANSWERED = 3600.0
"""Drain of a connection that is given up in good order: its own deadlines end it long before."""

RouteNews = Callable[[str, str, str], None]
"""Called with the route, the news in one word, and the reason."""


class Links:
    """A domain's connections and what is known of its routes."""

    def __init__(
        self,
        domain: str,
        settings: DomainSettings,
        channel: Channel,
        state: State,
        owner: LinkOwner,
        leases: Leases,
        pace: Pace,
        shared: Shared,
        news: RouteNews,
    ) -> None:
        self._owner = owner
        self._pace = pace
        self._trace = partial(shared.trace, domain)
        self._clock = shared.clock
        self._random = shared.random
        self._routes: list[tuple[Route, RouteHealth]] = []
        self._use(settings, channel, state, leases, news)
        self._opening: asyncio.Task[None] | None = None
        self._last_opened = -SPACING
        self._draining = False
        self.all: list[Link] = []

    def _use(self, settings: DomainSettings, channel: Channel, state: State, leases: Leases, news: RouteNews) -> None:
        self._settings = settings
        self._channel = channel
        self._state = state
        self._leases = leases
        down = {route: health.down for route, health in self._routes}
        self._routes = [
            (route, RouteHealth(self._clock, self._random, settings.max_retry_interval, _about(str(route), news)))
            for route in settings.routes
        ]
        for route, health in self._routes:
            health.down = down.get(route, "")  # for its end to be told, as its beginning was
        self._current = 0

    def reload(self, settings: DomainSettings, channel: Channel, state: State, leases: Leases, news: RouteNews) -> None:
        """Connect by other settings from now on; what spoke against a route is forgotten."""
        self.leave()
        self._use(settings, channel, state, leases, news)

    def shape(self, settings: DomainSettings) -> None:
        """Rules set some options otherwise: what is open stays, and what is known of the routes."""
        self._settings = settings

    def leave(self) -> None:
        """Have every connection answer what it owes, and end; one that is being opened is given up."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        for link in tuple(self.all):
            if link.connection is None:
                self._drop(link)  # a task that is cancelled before it has begun drops nothing
            link.close(UNTIL_ANSWERED)
        self._leases.withdraw(self)
        for _, health in self._routes:
            health.retire()

    def retrace(self) -> None:
        """Somebody begins to watch the connections, or nobody does any more."""
        for link in self.all:
            link.trace = self._trace()
            if link.trace is not None:
                address = "" if link.connection is None else link.connection.remote_address
                link.trace.peer = address
                link.trace.tell("event", "open already" if address else "being opened already")

    @property
    def route(self) -> str:
        """The route that connections are opened to now."""
        return str(self._routes[self._current][0])

    @property
    def health(self) -> RouteHealth:
        """What is known of that route."""
        return self._routes[self._current][1]

    @property
    def warm(self) -> bool:
        """There is a connection on which the gateway has answered and that takes more."""
        return any(link.warm and link.usable for link in self.all)

    @property
    def in_flight(self) -> int:
        """Deliveries on the wire."""
        return sum(link.in_flight for link in self.all)

    def in_flight_on(self, health: RouteHealth) -> int:
        """Deliveries on the wire of one route."""
        return sum(link.in_flight for link in self.all if link.health is health)

    def open_if_wanted(self) -> float | None:
        """Open the next connection if it is time, given that deliveries are ready.

        Returns the seconds after which to ask again, or None when an event will tell.
        """
        if self._opening or self._draining:
            return None
        self._leave_held_route()
        usable = [link for link in self.all if link.usable]
        if not all(link.warm and link.full for link in usable):
            return None
        if not usable:
            self._choose_route()
        health = self.health
        if (health.probing and usable) or not self._ramped_up(health, usable):
            return None
        delay = max(health.connect_delay(), health.send_delay())
        if self.all:
            delay = max(delay, self._last_opened + SPACING - self._clock.monotonic())
        if delay > 0:
            return delay
        if not self._pace.may_connect():
            return None
        if not self._leases.take(self):
            self._pace.not_connected()
            return None
        self._last_opened = self._clock.monotonic()
        quota = self._settings.max_deliveries_per_connection
        link = Link(self._owner, health, self._leases, self._clock, quota, self._trace())
        self.all.append(link)
        self._opening = asyncio.get_running_loop().create_task(self._open(link), name="connect")
        return None

    def _ramped_up(self, health: RouteHealth, usable: list[Link]) -> bool:
        """Whether enough was delivered for another connection beside those that the route has."""
        step = self._settings.connection_ramp_up
        if not step:
            return True
        if not usable and (health.down or health.fault):
            health.delivered = 0
        return sum(link.health is health for link in usable) <= health.delivered // step

    def spare(self, *, busy: bool = False) -> bool:
        """See mcmt.engine.leases.Borrower."""
        for link in self.all:
            if link.usable and (busy or not link.in_flight):
                link.close(UNTIL_ANSWERED if busy else 0.0)
                return True
        return False

    def offered(self) -> bool:
        """See mcmt.engine.leases.Borrower."""
        return self._owner.may_connect()

    def _drop(self, link: Link) -> None:
        if link in self.all:
            self.all.remove(link)
            link.leases.give()

    def close_idle(self) -> None:
        """Close the connections that have had nothing to do for ``idle_timeout``."""
        now = self._clock.monotonic()
        for link in self.all:
            if link.usable and not link.in_flight and now - link.idle_since >= self._settings.idle_timeout:
                link.close(0.0)

    def forget(self, link: Link, reason: str) -> None:
        """A link has ended; one that ended by itself without an answer speaks against its route."""
        self._drop(link)
        if link.connection is not None and not link.warm and link.closing is None:
            link.health.failed(reason)

    def try_now(self) -> None:
        """See RouteHealth."""
        for _, health in self._routes:
            health.try_now()

    def forgive(self) -> None:
        """See RouteHealth."""
        for _, health in self._routes:
            health.forgive()

    def heard(self, news: News) -> None:
        """What another engine of the machine has learned of a route."""
        for known, health in self._routes:
            if str(known) == news.route:
                if news.kind == "resumed":
                    health.heard_mended()
                else:
                    health.heard_fault(news.text)

    async def drain(self, limit: float) -> None:
        """Open nothing more, let connections answer for up to *limit* seconds, close them."""
        self._draining = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for link in self.all:
            link.close(limit)
        closing = [link.closing for link in self.all if link.closing is not None]
        if closing:
            await asyncio.wait(closing, timeout=limit + 1.0)

    def _leave_held_route(self) -> None:
        usable = [link for link in self.all if link.usable]
        held = [link for link in usable if link.health.send_delay() > 0]
        if not held:
            return
        # Only the other routes are asked: a hold that ends between two looks at the clock does not end its connection.
        others = [health for _, health in self._routes if all(health is not link.health for link in held)]
        free = any(max(health.connect_delay(), health.send_delay()) == 0 for health in others)
        if free or len(held) < len(usable):
            for link in held:
                link.close(UNTIL_ANSWERED)

    def _choose_route(self) -> None:
        delays = self._delays()
        self._current = delays.index(min(delays))

    def _delays(self) -> list[float]:
        return [max(health.connect_delay(), health.send_delay()) for _, health in self._routes]

    async def _open(self, link: Link) -> None:
        route = self._routes[self._current][0]
        reason = ""
        if link.trace is not None:
            link.trace.tell("event", "connecting", str(route))
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                link.connection = await self._channel.connect(
                    route, self._settings.options, link, self._clock, self._state
                )
        except TimeoutError:
            reason = f"no connection within connect_timeout ({self._settings.connect_timeout:g} s)"
        except RouteFaultError as error:
            link.health.faulted(str(error))
            if link.trace is not None:
                link.trace.tell("event", "failed", str(error))
        except ChannelError as error:
            reason = str(error)
        except Exception as error:
            log.exception("channel %s failed to connect to %s", self._settings.delivery_method, route)
            reason = f"internal error: {error!r}"
        finally:
            if self._opening is asyncio.current_task():
                self._opening = None
            if link.connection is None:
                self._drop(link)
        if reason:
            link.health.failed(reason)
            if link.trace is not None:
                link.trace.tell("event", "failed", reason)
        elif link.has_ended:
            self.forget(link, "closed while it was being opened")
        self._owner.has_room(link)


def _about(route: str, news: RouteNews) -> Callable[[str, str], None]:
    return lambda word, reason: news(route, word, reason)
