"""The pace of one domain: whether it may begin now, and how much.

The queue asks before it offers deliveries to a connection, and before it opens one; what it is refused it asks for
again when it is told to, or with the next tick. Nothing that waits here was tried: it is no attempt, and stays due.

Rules: one question a burst, no timer of its own: the end of a curfew is seen with the tick.
"""

from __future__ import annotations

from collections.abc import Callable

from mcmt.config.curfew import Quiet, quiet
from mcmt.config.settings import DomainSettings
from mcmt.config.throttle import CONNECTIONS, MESSAGES, shown_throttle
from mcmt.engine.allowance import Allowance, Allowances
from mcmt.message.priority import BULK, HIGH


class Pace:
    """``mcmt.engine.allowance.Drawer`` for one domain."""

    def __init__(
        self, settings: DomainSettings, allowances: Allowances, now: Callable[[], float], go: Callable[[], None]
    ) -> None:
        """*now*: seconds since the epoch. *go*: begin what can be begun."""
        self._allowances = allowances
        self._now = now
        self._go = go
        self._messages: Allowance | None = None
        self._connections: Allowance | None = None
        self.reload(settings)

    def reload(self, settings: DomainSettings) -> None:
        """Go on by other settings."""
        self.leave()
        self._settings = settings
        self._looked = 0  # the second, since the epoch
        self._quiet: Quiet | None = None
        self._messages = self._allowances.of(settings, MESSAGES)
        self._connections = self._allowances.of(settings, CONNECTIONS)

    def leave(self) -> None:
        """Wait for nothing any more."""
        for allowance in (self._messages, self._connections):
            if allowance is not None:
                allowance.withdraw(self)

    @property
    def lowest(self) -> int:
        """The lowest priority that may be begun now."""
        return HIGH if self.quiet else BULK

    def may_start(self, wanted: int) -> int:
        """How many of *wanted* deliveries, all ``lowest`` or above, may be begun now; those that are not are for
        ``not_started``."""
        if (curfew := self.quiet) and not curfew.exempt:
            return 0
        return wanted if self._messages is None else self._messages.take(self, wanted)

    def not_started(self, count: int) -> None:
        """So many of those that might be begun were not."""
        if count and self._messages is not None:
            self._messages.give_back(self, count)

    def may_connect(self) -> bool:
        """Whether a connection may be opened now; one that is not is for ``not_connected``."""
        if (curfew := self.quiet) and not curfew.exempt:
            return False
        return self._connections is None or self._connections.take(self, 1) == 1

    def not_connected(self) -> None:
        """The connection that might be opened was not."""
        if self._connections is not None:
            self._connections.give_back(self, 1)

    def permitted(self) -> None:
        """See Drawer."""
        self._go()

    @property
    def quiet(self) -> Quiet | None:
        """The curfew that holds; None: none does."""
        if not self._settings.curfew:
            return None
        now = self._now()
        if int(now) != self._looked:  # a curfew begins and ends with a second
            self._looked, self._quiet = int(now), quiet(self._settings.curfew, now)
        return self._quiet

    @property
    def throttled(self) -> str:
        """The throttle that is waited for; empty: none is."""
        for option, allowance in ((MESSAGES, self._messages), (CONNECTIONS, self._connections)):
            if allowance is not None and allowance.holds_back(self):
                return shown_throttle(self._settings, option)
        return ""
