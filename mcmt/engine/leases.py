"""Connections as something that is lent: what one engine holds of a stanza's, over all domains that it serves.

A stanza of its own serves one domain; ``"*"`` serves every domain that has none, and all of them share what there
is. Each connection needs a grant of the lender (lender.py), who keeps ``max_outbound_connections`` over all engines.
Who finds none waits in line, and a domain that has an idle connection gives it up for it.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet

from mcmt.engine.lender import Lending


class Borrower(Protocol):
    """The connections of one domain."""

    def spare(self, *, busy: bool = False) -> bool:
        """Close an idle connection, or else, if *busy*, another one when it is answered; whether there was one."""

    def offered(self) -> bool:
        """A connection may be had now: whether it is still wanted, and will be asked for."""


class Leases:
    """The connections of one stanza that this engine holds."""

    def __init__(self, stanza: str, lender: Lending) -> None:
        self._stanza = stanza
        self._lender = lender
        self._granted = 0
        self._lent = 0
        self._wanted = 0
        """Asked of the lender, and not granted yet."""
        self._recalled = 0
        """To be given back to the lender, as soon as they end."""
        self._borrowers: WeakSet[Borrower] = WeakSet()
        self._waiting: dict[Borrower, None] = {}  # a set that keeps its order

    def take(self, borrower: Borrower) -> bool:
        """Whether *borrower* may open a connection; if not, it is told when it may ask again."""
        self._borrowers.add(borrower)
        if self._lent >= self._granted and self._wanted < len(self._waiting.keys() | {borrower}):
            self._want()  # a lender in this process may grant at once
        if self._lent < self._granted:
            self._waiting.pop(borrower, None)
            self._lent += 1
            return True
        self._waiting.setdefault(borrower)
        any(other.spare() for other in list(self._borrowers) if other is not borrower)
        return False

    def withdraw(self, borrower: Borrower) -> None:
        """It does not wait for a connection any more."""
        self._waiting.pop(borrower, None)

    def give(self) -> None:
        """A connection has ended."""
        self._lent -= 1
        if self._recalled:
            self._recalled -= 1
            self._give_back()
            if self._wanted < len(self._waiting):
                self._want()
        else:
            for _ in range(self._offer()):
                self._give_back()

    def tidy(self) -> None:
        """Once a second: give back what was offered here and not taken."""
        while self._granted > self._lent and not self._waiting:
            self._give_back()

    def granted(self) -> None:
        """See mcmt.engine.lender.Holder."""
        self._wanted -= 1
        self._granted += 1
        self._offer()

    def recalled(self, *, busy: bool) -> None:
        """See mcmt.engine.lender.Holder."""
        if self._granted > self._lent:
            self._give_back()
        elif self._recalled < self._lent and self._spare(busy=busy):
            self._recalled += 1

    def _spare(self, *, busy: bool) -> bool:
        borrowers = list(self._borrowers)
        return any(one.spare() for one in borrowers) or (busy and any(one.spare(busy=True) for one in borrowers))

    def _want(self) -> None:
        self._wanted += 1
        self._lender.want(self._stanza, self)

    def _give_back(self) -> None:
        self._granted -= 1
        self._lender.give_back(self._stanza, self)

    def _offer(self) -> int:
        """Tell as many of those that wait as there are connections to be had; how many nobody asks for."""
        free = self._granted - self._lent
        while free > 0 and self._waiting:
            borrower = next(iter(self._waiting))
            del self._waiting[borrower]
            free -= borrower.offered()
        return free
