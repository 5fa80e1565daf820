"""Holds one domain's answers against its rules: tells what matched, and fails what a rule in force says to fail.

Rules: of a success nothing is told but the first one after a count began that it ends. A burst is told once a rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mcmt.config.rules import Rule, RuleBook
from mcmt.engine.rulings import Rulings, ShapedEngine, Shaping
from mcmt.engine.verdict import FINAL
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome

Answered = tuple[Delivery, Outcome]


class RuleWatch:
    """The rules of one engine's domains, and who counts."""

    def __init__(self, rulings: Rulings, shaping: Shaping, engine: ShapedEngine) -> None:
        self.rulings = rulings
        self._shaping = shaping
        self._engine = engine

    def awaits(self, domain: str) -> bool:
        """A success in *domain* would end a count."""
        return domain in self.rulings.counting

    def saw(self, domain: str, book: RuleBook, batch: Sequence[Answered]) -> None:
        """A burst of answers came, in this order."""
        in_force, counting = self.rulings.of(domain), self.rulings.counting
        counts: dict[str, tuple[int, Rule, Outcome]] = {}
        for _, outcome in batch:
            if outcome.disposition is Disposition.DELIVERED:
                if book.counts_successes:
                    counts = {name: count for name, count in counts.items() if not count[1].without_success}
                    if domain in counting:
                        counting.discard(domain)
                        self._shaping.succeeded(domain)
                continue
            for rule in _matching(book, outcome):
                if rule.name not in in_force:
                    counts[rule.name] = (counts[rule.name][0] if rule.name in counts else 0) + 1, rule, outcome
        for name, (count, rule, outcome) in counts.items():
            if rule.without_success:
                self.rulings.await_success(domain)
            self._shaping.matched(self._engine, domain, name, count, f"{outcome.code} {outcome.text}".strip())

    def ended(self, domain: str, book: RuleBook, answered: Answered) -> Answered | None:
        """The answer as one that fails the delivery for good, where a rule in force says so; else None."""
        outcome = answered[1]
        if outcome.disposition in FINAL:
            return None
        failing = self.rulings.failing(domain)
        rule = next((rule for rule in _matching(book, outcome) if rule.name in failing), None)
        if rule is None:
            return None
        text = f"5.7.0 [internal] failed by rule {rule.name}: {outcome.code} {outcome.text}".strip()
        return answered[0], msgspec.structs.replace(
            outcome, disposition=Disposition.PERMANENT, code="554", text=text, retry_after=0.0
        )


def _matching(book: RuleBook, outcome: Outcome) -> Sequence[Rule]:
    return book.matching(outcome.code, outcome.text, permanent=outcome.disposition in FINAL)
