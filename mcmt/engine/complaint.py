"""A trouble that is met again and again is told to the operator at once, and then once in a while."""

from __future__ import annotations

import logging
import math

from mcmt.clock import Clock

log = logging.getLogger(__name__)

REMINDER = 60.0
"""Seconds between two words to the operator about one trouble."""


class Complaint:
    """One kind of trouble."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told = -math.inf

    def tell(self, text: str, *values: object) -> None:
        """Say it, unless it was said a moment ago: for each message a line would be all that is seen."""
        now = self._clock.monotonic()
        if now - self._told >= REMINDER:
            self._told = now
            log.error(text, *values)
