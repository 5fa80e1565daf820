"""What a main log says in sum: outcomes by domain and reason, rates, and how long deliveries took.

A reason that names a message is the same one for every message.

Rules: pure; memory is bounded: past REASONS rows, further reasons are counted together by their domain and outcome, and
past as many of those the domains together as well.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

import msgspec

from mcmt.eventlog.ledger import WORDS, Entry, parse
from mcmt.eventlog.tally import DELAYS

REASONS = 10_000
OTHERS = "(others)"

_BATCH_ID = re.compile(r"\b[0-9a-f]{24}\b")


class Row(msgspec.Struct, frozen=True, order=True):
    """How often something became of deliveries of a domain."""

    domain: str
    outcome: str
    """A word of ledger.OUTCOMES."""
    reason: str
    count: int


class Summary:
    """The sums over all lines that it was given."""

    def __init__(self) -> None:
        self.first = float("inf")
        self.last = 0.0
        """When the earliest and the latest line were written, seconds since the epoch."""
        self.delays = [0] * (len(DELAYS) + 1)
        """Final answers by DELAYS (mcmt/eventlog/tally.py): one for each bound, one beyond all."""
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def take(self, lines: Iterable[bytes]) -> None:
        """Add these; what is no entry is passed over."""
        for line in lines:
            if (entry := parse(line)) is not None:
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        self.first = min(self.first, entry.time)
        self.last = max(self.last, entry.time)
        key = (entry.domain, entry.type, _BATCH_ID.sub("...", entry.reason) if entry.reason else "")
        if key not in self._counts and len(self._counts) >= REASONS:
            key = (entry.domain, entry.type, OTHERS)
            if key not in self._counts and len(self._counts) >= 2 * REASONS:
                key = (OTHERS, entry.type, OTHERS)
        self._counts[key] += 1
        if entry.queued is not None and entry.type in "DP":
            self.delays[bisect_left(DELAYS, entry.queued)] += 1

    @property
    def rows(self) -> list[Row]:
        """By domain, outcome in the order of a message's life, and the most frequent reason first."""
        order = list(WORDS)
        keys = sorted(self._counts, key=lambda key: (key[0], order.index(key[1]), -self._counts[key], key[2]))
        return [
            Row(domain, WORDS[letter], reason, self._counts[domain, letter, reason]) for domain, letter, reason in keys
        ]

    @property
    def totals(self) -> dict[str, int]:
        """By outcome."""
        found: Counter[str] = Counter()
        for (_, letter, _), count in self._counts.items():
            found[WORDS[letter]] += count
        return {word: found[word] for word in WORDS.values() if found[word]}
