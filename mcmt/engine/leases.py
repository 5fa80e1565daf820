"""Connections as something that is lent: ``max_outbound_connections`` of a stanza, over all domains that it serves.

A stanza of its own serves one domain; ``"*"`` serves every domain that has none, and all of them share the
limit. Who finds all connections lent waits in line, and a domain that has an idle one gives it up for it.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet


class Borrower(Protocol):
    """The connections of one domain."""

    def spare(self) -> bool:
        """Close an idle connection, if there is one; whether there was."""

    def offered(self) -> bool:
        """A connection may be had now: whether it is still wanted, and will be asked for."""


class Leases:
    """The connections of one stanza."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lent = 0
        self._borrowers: WeakSet[Borrower] = WeakSet()
        self._waiting: dict[Borrower, None] = {}  # a set that keeps its order

    def take(self, borrower: Borrower) -> bool:
        """Whether *borrower* may open a connection; if not, it is told when it may ask again."""
        self._borrowers.add(borrower)
        if self._lent < self._limit:
            self._waiting.pop(borrower, None)
            self._lent += 1
            return True
        self._waiting.setdefault(borrower)
        any(other.spare() for other in list(self._borrowers) if other is not borrower)
        return False

    def give(self) -> None:
        """A connection has ended."""
        self._lent -= 1
        while self._waiting:
            borrower = next(iter(self._waiting))
            del self._waiting[borrower]
            if borrower.offered():
                return
