"""The frames of one connection that were sent and that nothing has confirmed yet.

Silence confirms, but only what the gateway's machine has: the silence about a byte begins when it has left our buffer
and the kernel's. ``note`` marks how far that is at a moment; what lies before a mark is confirmed when the mark is as
old as the response timeout. So there is one mark a look, and none a frame.

Identifiers run upward from the first and wrap at 2**32; the window is always an unbroken run of them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mcmt.message.model import Delivery

_MASK: Final = 2**32 - 1

Entry = tuple[Delivery, float, int, int]
"""A delivery, when it was written (monotonic), the bytes of its frame, and the bytes written with it and before it."""


class Window:
    """What is on its way, the oldest first."""

    def __init__(self, first_identifier: int = 1) -> None:
        self.first = first_identifier
        """The identifier of the oldest frame, or of the next when there is none."""
        self._entries: deque[Entry] = deque()
        self._before = 0  # frames that were in the window
        self._written = 0
        self._gone = 0  # bytes that are known to have left this machine
        self._quiet = 0  # bytes about which the gateway has been silent long enough
        self._marks: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_identifier(self) -> int:
        """The one that the next frame gets."""
        return (self.first + len(self._entries)) & _MASK

    @property
    def all_gone(self) -> bool:
        """Everything that was written has left this machine, as far as is noted."""
        return self._gone >= self._written

    def add(self, delivery: Delivery, size: int, now: float) -> None:
        """A frame of *size* bytes is written."""
        self._written += size
        self._entries.append((delivery, now, size, self._written))

    def note(self, now: float, unsent: int) -> bool:
        """*unsent* of the bytes that were written are still on this machine; whether more have left it since."""
        gone = self._written - unsent
        if gone <= self._gone:
            return False
        self._gone = gone
        self._marks.append((now, gone))
        return True

    def confirmed(self, now: float, timeout: float, limit: int) -> list[tuple[int, Entry]]:
        """Take out up to *limit* of those about which there was silence for *timeout*, with their identifiers."""
        while self._marks and now - self._marks[0][0] >= timeout:
            self._quiet = self._marks.popleft()[1]
        count = 0
        for _, _, _, end in self._entries:
            if end > self._quiet or count == limit:
                break
            count += 1
        return self.take(count)

    @property
    def more_confirmed(self) -> bool:
        """There are others that ``confirmed`` left because of its limit."""
        return bool(self._entries) and self._entries[0][3] <= self._quiet

    def place_of(self, identifier: int) -> int | None:
        """The index of the frame with that identifier; None when none was sent on this connection.

        Negative: so many frames before the oldest that is here.
        """
        index = (identifier - self.first) & _MASK
        if index < len(self._entries):
            return index
        behind = (self.first - identifier) & _MASK
        return -behind if 0 < behind <= self._before else None

    def take(self, count: int) -> list[tuple[int, Entry]]:
        """Take the *count* oldest out, with their identifiers."""
        first, entries = self.first, self._entries
        taken = [((first + index) & _MASK, entries.popleft()) for index in range(min(count, len(entries)))]
        self.first = (first + len(taken)) & _MASK
        self._before += len(taken)
        return taken
