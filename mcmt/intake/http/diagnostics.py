"""What aiohttp logs.

It tells of every request that is none as of a bug, with a traceback and with the octets at fault, which may be a token.
Rules: that is counted, and told once in a while without a word of the client's; anything else passes.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

from mcmt.clock import Clock
from mcmt.intake.reminder import Reminder


class Diagnostics(logging.LoggerAdapter[logging.Logger]):
    """Stands before *logger*."""

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        super().__init__(logger)
        self._unreadable = Reminder(clock)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """See LoggerAdapter."""
        if not isinstance(kwargs.get("exc_info"), HttpProcessingError):
            super().log(level, msg, *args, **kwargs)
        elif times := self._unreadable.count():
            text = "%d requests by HTTP could not be read and were answered 400, the last one from %s"
            self.logger.warning(text, times, args[0] if args else "a client")

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """See LoggerAdapter: nothing is added."""
        return msg, kwargs
