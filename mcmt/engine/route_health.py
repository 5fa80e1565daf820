"""What is known of one domain's route: whether to connect, whether to send, and when to ask again.

In memory only, and about the route, never about a delivery (invariant 9). Two independent gates:

* connecting waits after a connection failed or ended without having answered anything;
* sending waits while the route is held: two refusals in a row without an answer between them, a wait
  that the gateway asked for, or a fault of the route itself. After a fault a probe, one delivery alone,
  decides whether the hold ends.

Times are monotonic seconds. It tells its news (down, up, suspended, probe, resumed) to a callback.
"""

from __future__ import annotations

from collections.abc import Callable

from mcmt.clock import Clock
from mcmt.engine.retry import retry_delay

FIRST_DELAY = 1.0
"""Seconds before the second try to connect; doubles."""
LONGEST_DELAY = 60.0
"""Seconds between tries to connect to a gateway that stays away."""
REFUSALS_BEFORE_HOLD = 2
HEARSAY = 1.5
"""Times the wait of the engine that asks: after it, one that was told of a fault asks itself."""

News = Callable[[str, str], None]
"""Called with the news in one word, and the reason."""


class RouteHealth:
    """The gates of one route of one domain."""

    def __init__(self, clock: Clock, random: Callable[[], float], longest: float, news: News) -> None:
        self._clock = clock
        self._random = random
        self._longest = longest  # the domain's max_retry_interval, between probes
        self._news = news
        self._failures = 0
        self._connect_after = 0.0
        self._refusals = 0
        self._holds = 0
        self._send_after = 0.0
        self.fault = ""
        """Why the route is suspended; empty when it is not."""
        self.down = ""
        """Why no connection can be had; empty when one can."""
        self.delivered = 0
        """Deliveries that succeeded since it is in use again; counted where ``connection_ramp_up`` asks for it."""

    def connect_delay(self) -> float:
        """Seconds until the next connection may be tried; 0 now."""
        return max(0.0, self._connect_after - self._clock.monotonic())

    def send_delay(self) -> float:
        """Seconds until deliveries may be sent; 0 now. While ``probing``, only one at a time."""
        return max(0.0, self._send_after - self._clock.monotonic())

    @property
    def probing(self) -> bool:
        """The route had a fault, and its time has come to be asked with one delivery."""
        return bool(self.fault) and self.send_delay() == 0.0

    def failed(self, reason: str) -> None:
        """A connection could not be had, or ended before anything was answered on it."""
        self._failures += 1
        delay = retry_delay(self._failures, FIRST_DELAY, min(LONGEST_DELAY, self._longest), self._random)
        self._connect_after = self._clock.monotonic() + delay
        if not self.down:
            self.down = reason
            self._news("down", reason)

    def answered(self) -> None:
        """The gateway answered a delivery, whatever it said of it: the route works."""
        self._failures = self._refusals = self._holds = 0
        self._connect_after = 0.0
        if self.down:
            self.down = ""
            self._news("up", "the gateway answers")
        # What was sent before the fault may still be answered while the hold is in force: it proves nothing.
        if self.probing:
            self.fault = ""
            self._news("resumed", "the probe was answered")

    def refused(self, reason: str, wait: float = 0.0) -> None:
        """A burst was refused unprocessed; *wait*: seconds that the gateway asked for."""
        self._refusals += 1
        if wait or self._refusals >= REFUSALS_BEFORE_HOLD:
            self._holds += 1
            delay = retry_delay(self._holds, FIRST_DELAY, min(LONGEST_DELAY, self._longest), self._random)
            self._hold(max(wait, delay))
            if not self.down:
                self.down = reason
                self._news("down", reason)

    def faulted(self, reason: str) -> None:
        """The route itself is at fault: nothing is sent but a probe every ``max_retry_interval``."""
        if not self.fault:
            self.fault = reason
            self._news("suspended", reason)
        elif self.probing:
            self._news("probe", reason)
        self._hold(self._longest)

    def heard_fault(self, reason: str) -> None:
        """Another engine has found the route at fault, or still is asking: leave that to it."""
        self.fault = self.fault or reason
        self._hold(self._longest * HEARSAY)

    def heard_mended(self) -> None:
        """Another engine was answered, or an operator has told it that the fault is mended."""
        if self.fault:
            self.fault = ""
            self.try_now()

    def try_now(self) -> None:
        """An operator asks to try at once: no back-off; after a fault, the probe."""
        self._failures = self._refusals = self._holds = 0
        self._connect_after = self._send_after = 0.0

    def forgive(self, reason: str = "by hand") -> None:
        """An operator says that the fault is mended."""
        self.try_now()
        if self.fault:
            self.fault = ""
            self._news("resumed", reason)

    def retire(self) -> None:
        """Other settings hold for the route: what old connections still bring says nothing about it."""
        self.forgive("the configuration was reloaded")
        self._news = _tell_nobody

    def _hold(self, seconds: float) -> None:
        self._send_after = max(self._send_after, self._clock.monotonic() + seconds)


def _tell_nobody(_word: str, _reason: str) -> None:
    pass
