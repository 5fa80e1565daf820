"""How many streams a client may have open, in the face of SETTINGS that it has not seen yet."""

from __future__ import annotations

from collections import deque


class StreamsLimit:
    """The limit in force while SETTINGS are on their way.

    A raised limit counts once it was written, a lowered one once the client acknowledged it (RFC 9113
    6.5.3). The first one counts at once, as Apple's does; but a client that has not acknowledged it
    cannot have known, so passing it is then no violation.
    """

    def __init__(self, first: int) -> None:
        self.current = first
        """The value that was last decided on."""
        self.known = False
        """Whether the client acknowledged the first one."""
        self._acknowledged = first
        self._written: deque[int] = deque()
        self._unwritten: list[int] = [first]

    def decide(self, value: int | None) -> None:
        """Note that a SETTINGS frame was made; None: it leaves the limit as it is."""
        self.current = self.current if value is None else value
        self._unwritten.append(self.current)

    def written(self) -> None:
        """Note that the frames decided on have left."""
        if self._unwritten:
            self._written.extend(self._unwritten)
            self._unwritten.clear()

    def acknowledged(self) -> None:
        """Note that the client acknowledged the oldest frame."""
        if self._written:
            self._acknowledged = self._written.popleft()
            self.known = True

    def allows(self, open_streams: int) -> bool:
        """Whether one more stream may be opened beside *open_streams*."""
        return open_streams < self.in_force

    @property
    def in_force(self) -> int:
        """What the client is held to now."""
        return max(self._acknowledged, *self._written, 0)
