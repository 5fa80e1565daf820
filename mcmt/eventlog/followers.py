"""Whoever wants to see each line as it is written (``mcmt send --follow``, the demo)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcmt.message.event import Event

Listener = Callable[[str, str, Event], None]


class Followers:
    """Lives on the event loop. *tell* takes one line for stderr."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._listeners: dict[object, Listener] = {}

    def add(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with logger's name, line and event for every line. Returns what ends it."""
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None

    def tell(self, logger: str, lines: Sequence[str], events: Sequence[Event]) -> None:
        """These lines are in the logger's file. A listener that raises is told of and called no more."""
        for key, listener in tuple(self._listeners.items()):
            try:
                for line, event in zip(lines, events, strict=True):
                    listener(logger, line, event)
            except Exception as error:  # a follower's bug must not stop the log
                del self._listeners[key]
                self._tell(f"a follower of the event log failed and is dropped: {error!r}")
