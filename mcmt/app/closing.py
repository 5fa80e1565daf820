"""What was opened is closed in the reverse order, whatever fails on the way."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class Closing:
    """A pile of what closes what was opened."""

    def __init__(self) -> None:
        self._pile: list[Callable[[], Awaitable[object]]] = []

    def add(self, close: Callable[[], Awaitable[object]]) -> None:
        """To be called before all that was added before."""
        self._pile.append(close)

    async def close(self) -> None:
        """Close everything."""
        while self._pile:
            close = self._pile.pop()
            try:
                await close()
            except Exception:
                # The others must not be left open for its sake: the spool is the last.
                log.exception("something could not be closed in good order")
