"""A fuzzer's input taken apart into choices, numbers and pieces, from the front; when it has run out, all are 0."""

from __future__ import annotations


class Octets:
    """What is left of one input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int = 1) -> int:
        """An unsigned number of *size* octets."""
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        """The next *size* octets, fewer at the end."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def piece(self) -> bytes:
        """A piece whose length is said before it, in two octets."""
        return self.take(self.number(2))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))


def cut(data: bytes, seed: int) -> list[bytes]:
    """*data* in pieces of 1 to 16 octets or so, by *seed*; in one piece for 0."""
    pieces = []
    while data and seed:
        size = 1 + seed % 16
        pieces.append(data[:size])
        data = data[size:]
        seed = (seed * 1103515245 + 12345) & 0xFFFF or 1
    return [*pieces, data] if data else pieces
