"""Lines of a log that are wanted, found among many: by substrings first, and only what is left is taken apart.

Measured on one core: a million lines of a main log, 122 MB, in 0.2 s by an id, in 1.2 s by an outcome that all of them
have.

Rules: pure; the lines come out as they went in, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mcmt.eventlog.ledger import OUTCOMES, Entry, parse


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """All of it must hold; what is empty holds for every line."""

    id: str = ""
    """A delivery's, or the message's."""
    domain: str = ""
    """Routing domain, lower case."""
    outcomes: frozenset[str] = frozenset()
    """Any of these words (ledger.OUTCOMES)."""
    token: frozenset[str] = frozenset()
    """A device token, in any of the ways in which the log may have it."""
    text: str = ""
    """Anywhere in the line."""
    since: float = 0.0
    until: float = float("inf")
    """Seconds since the epoch."""

    @property
    def takes_apart(self) -> bool:
        """Whether lines must be those of a main log to be judged."""
        return bool(self.domain or self.outcomes)


class Search:
    """Finds what is *wanted* among the lines of one log."""

    def __init__(self, wanted: Wanted, *, main: bool) -> None:
        """*main*: its lines are a main log's, of either format. Of others no column is known but the time in front."""
        self._wanted = wanted
        self._main = main
        self._letters = frozenset(OUTCOMES[word] for word in wanted.outcomes)
        self._needles = [text.encode() for text in (wanted.id, wanted.text) if text]
        self._domain = wanted.domain.encode()
        self._tokens = [token.encode() for token in wanted.token]

    def among(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        """Those of *lines* that are wanted."""
        for needle in self._needles:
            lines = [line for line in lines if needle in line]
        if self._tokens:
            lines = [line for line in lines if any(token in line for token in self._tokens)]
        if domain := self._domain:
            # A client may have written it in capitals.
            lines = [line for line in lines if domain in line or domain in line.lower()]
        wanted = self._wanted
        if len(self._letters) == 1:
            (letter,) = self._letters
            text, json = f"@{letter}@".encode(), f'"type":"{letter}"'.encode()
            lines = [line for line in lines if text in line or json in line]
        if wanted.since or wanted.until != float("inf"):
            lines = [line for line in lines if wanted.since <= time_of(line) <= wanted.until]
        if not self._main or not (wanted.id or wanted.takes_apart):
            return lines
        return [line for line in lines if (entry := parse(line)) is not None and self._is(entry)]

    def _is(self, entry: Entry) -> bool:
        wanted = self._wanted
        return (
            (not wanted.id or wanted.id in (entry.id, entry.batch_id))
            and (not wanted.domain or wanted.domain == entry.domain)
            and (not self._letters or entry.type in self._letters)
        )


def time_of(line: bytes) -> float:
    """When *line* was written, seconds since the epoch; 0 for a format that does not begin with it."""
    if line[:1] == b"{":
        at = line.find(b'"time":') + 7
        text = line[at : line.find(b",", at)] if at > 6 else b""
    else:
        text = line.partition(b"@")[0]
        if not text.isdigit():
            text = text.partition(b":")[0]  # the reject log's
    try:
        return float(text)
    except ValueError:
        return 0.0
