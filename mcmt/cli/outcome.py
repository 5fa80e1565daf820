"""What became of one message: its log lines, gathered until every delivery has its final one.

Pure: lines in, lines to show out. The main log has exactly one line of every event, and decides; a channel's own line
of the same event comes before it and is shown in its place.
"""

from __future__ import annotations

from mcmt.control.protocol import LogLine

_FINAL = frozenset({"D", "P"})


class MessageOutcome:
    """The deliveries of one message, sent to one recipient."""

    def __init__(self, batch_id: str) -> None:
        self._batch_id = batch_id
        self._shown: set[tuple[str, str, int]] = set()
        self._ended: dict[str, str] = {}
        self.deliveries: int | None = None
        """How many there are; None until the reception's line was seen."""

    def take(self, line: LogLine) -> str | None:
        """Note *line*; the text to show, or None: it is another message's, or of an event that was shown already."""
        if line.batch_id != self._batch_id:
            return None
        if line.ledger and line.kind == "R":
            self.deliveries = line.deliveries
        if line.ledger and line.kind in _FINAL:
            self._ended[line.id] = line.kind
        event = (line.kind, line.id, line.attempt)
        if event in self._shown:
            return None
        self._shown.add(event)
        return line.line

    @property
    def complete(self) -> bool:
        """Every delivery has its final line."""
        return self.deliveries is not None and len(self._ended) >= self.deliveries

    @property
    def failed(self) -> int:
        """Deliveries that ended in a P line."""
        return sum(kind == "P" for kind in self._ended.values())

    @property
    def pending(self) -> int | None:
        """Deliveries without a final line; None if it is not known how many there are."""
        return None if self.deliveries is None else self.deliveries - len(self._ended)
