"""Which deliveries must not wait in the spool behind what a queue has ready, and whether any may wait there.

What comes is told with its priority. What lay in the spool before is not: where a curfew lets only high priority pass,
what is ready may all be what it holds back, and no room is made by sending it. So while it holds, what is urgent is
asked for alone after each pull that was full, until such a pull has found less than it might.
"""

from __future__ import annotations

from mcmt.engine.pace import Pace
from mcmt.message.priority import BULK


class Urgency:
    """Of one queue."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.highest = BULK
        """The highest priority of what may wait, as far as it is known."""
        self._lowest = BULK
        """What the last tick saw that may be begun."""
        self._none_left = False
        """A pull of what is urgent alone has found no more, and nothing was told since."""

    def came(self, priority: int) -> None:
        """Something of *priority* has come into the spool, or is due there now."""
        self.highest = max(self.highest, priority)
        self._none_left = False

    def changed(self) -> None:
        """Something is due in the spool, and of what priority is not known."""
        self.came(self._pace.lowest)

    def tick(self) -> None:
        """Once a second: a curfew may have begun."""
        lowest = self._pace.lowest
        if lowest > self._lowest:
            self.came(lowest)
        self._lowest = lowest

    def pulling(self, lowest: int) -> None:
        """A pull of *lowest* and above begins."""
        self.highest = BULK
        if lowest > BULK:
            self._none_left = True

    def pulled(self, lowest: int, *, full: bool) -> None:
        """It has ended, and brought as much as was wanted, or all that there was."""
        if full and lowest > BULK:
            self.came(lowest)
        elif full and not self._none_left:
            self.highest = max(self.highest, self._pace.lowest)
