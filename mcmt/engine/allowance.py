"""What one engine may draw of one throttle, over all domains that it serves.

A domain asks for what it could begin now and begins what it gets; for the rest it waits in line here, and the engine
asks the one who grants (throttles.py) for all of them at once. Nothing is kept: what a domain does not use goes to the
next one in line, and what nobody uses is given back at once.

Rules: one ask is under way at a time, and nothing is granted from within a give-back.
"""

from __future__ import annotations

from typing import Protocol

from mcmt.config.settings import DomainSettings
from mcmt.config.throttle import throttle_of
from mcmt.engine.throttles import Granting


class Drawer(Protocol):
    """One domain at a throttle."""

    def permitted(self) -> None:
        """There are permits now: take what can be begun, and begin it."""


class Allowance:
    """One engine's part of one throttle: ``mcmt.engine.throttles.PermitHolder``."""

    def __init__(self, throttle: str, granting: Granting) -> None:
        self._throttle = throttle
        self._granting = granting
        self._free = 0
        """Granted, and to be begun before the turn of the event loop ends."""
        self._asked = False
        self._busy = False
        """Somebody is at it, and sees for itself what there is."""
        self._waiting: dict[Drawer, int] = {}  # in the order of their asking

    def take(self, drawer: Drawer, wanted: int) -> int:
        """How many of *wanted* may be begun now; if not all, *drawer* is told when there are more."""
        while self._free < wanted and not self._asked:
            self._waiting[drawer] = wanted - self._free
            self._ask()  # one who grants in this process may do so at once
        got = min(wanted, self._free)
        self._free -= got
        if got < wanted:
            self._waiting[drawer] = wanted - got
        else:
            self._waiting.pop(drawer, None)
        return got

    def give_back(self, drawer: Drawer, count: int) -> None:
        """So many that *drawer* took were not begun: it is not this throttle that it waits for."""
        self._waiting.pop(drawer, None)
        if self._busy:
            self._free += count
        else:
            self._granting.give_back(self._throttle, self, count)

    def withdraw(self, drawer: Drawer) -> None:
        """It does not wait any more."""
        self._waiting.pop(drawer, None)

    def holds_back(self, drawer: Drawer) -> bool:
        """Whether *drawer* could begin more than it may."""
        return drawer in self._waiting

    def permitted(self, count: int) -> None:
        """See mcmt.engine.throttles.PermitHolder."""
        self._asked = False
        self._free += count
        if self._busy:
            return
        self._busy = True
        try:
            while self._free:
                self._serve()
                self._ask()
        finally:
            self._busy = False

    def _serve(self) -> None:
        for drawer in list(self._waiting):
            if not self._free:
                return
            # Out of the line, so that it is behind the others when it asks for more.
            if self._waiting.pop(drawer, 0):
                drawer.permitted()
        if self._free:
            unused, self._free = self._free, 0
            self._granting.give_back(self._throttle, self, unused)

    def _ask(self) -> None:
        if not self._waiting or self._asked:
            return
        self._asked = True
        busy, self._busy = self._busy, True
        try:
            self._granting.ask(self._throttle, self, sum(self._waiting.values()))
        finally:
            self._busy = busy


class Allowances:
    """One engine's parts of every throttle."""

    def __init__(self, granting: Granting) -> None:
        self._granting = granting
        self._by_throttle: dict[str, Allowance] = {}

    def of(self, domain: DomainSettings, option: str) -> Allowance | None:
        """What *domain* draws on for *option*; None: it has no such limit."""
        name = throttle_of(domain, option)
        if not name:
            return None
        return self._by_throttle.setdefault(name, Allowance(name, self._granting))
