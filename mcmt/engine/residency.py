"""How many deliveries are in memory, over all domains (``max_resident_messages``).

Every queue may hold its own ``max_resident_active_queue``; together they stay within one limit. A few
places are every queue's own, so that busy domains cannot shut a quiet one out.
"""

from __future__ import annotations

GUARANTEED = 50
"""Deliveries that a queue may hold resident whatever the others hold."""


class Residency:
    """The count of resident deliveries and its limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0

    def enter(self, wanted: int, held: int) -> int:
        """Take up to *wanted* places for a queue that holds *held*; how many it got."""
        granted = max(0, min(wanted, max(self.limit - self.count, GUARANTEED - held)))
        self.count += granted
        return granted

    def leave(self, count: int) -> None:
        """Give places back."""
        self.count -= count
