"""Shaping rules: which answers of a domain's gateway count, how many in which time are too many, and what happens then.

An answer's code and reason are held against a rule here; who counts is mcmt/engine/shaper.py. An expression is held
against the first ``LONGEST_TEXT`` characters of a reason, and has few repetitions, none within another: what a gateway
says must not keep the process busy.

Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from mcmt.config.patterns import expression_of

LONGEST_TEXT: Final = 200
"""Characters of a reason that an expression is held against."""
LONGEST_EXPRESSION: Final = 200
MOST_REPETITIONS: Final = 2
"""Of ``* + {}`` in one expression, and as many ``?``: each of the former multiplies what a text that does not match may
cost by its length. ``a*a*b`` costs 40 ms at most, a third one 3 s."""
_REMEMBERED: Final = 4096
"""Answers whose rules are remembered: most gateways have few, and then an answer costs one look-up."""
_OURS: Final = "[internal]"
"""Stands in reasons of our own making: rules are about what a gateway says."""
_REPEAT: Final = re.compile(r"[*+?]|\{\d*,?\d*\}")
_PIECE: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P?[<:=!#a-zA-Z-]*|[()|]|" + _REPEAT.pattern, re.DOTALL)

Kind = Literal["any", "transient", "permanent"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a domain."""

    name: str
    codes: tuple[str, ...] = ()
    """Digits, or ``x`` for any; none: whatever code."""
    reasons: tuple[str, ...] = ()
    """Whole texts, or ``/expressions/``; none: whatever reason."""
    kind: Kind = "any"
    times: int
    within: float
    """Seconds."""
    without_success: bool = False
    """A delivery that succeeds begins the count anew."""
    suspend: bool = False
    fail: Literal["none", "matching", "queue"] = "none"
    values: tuple[tuple[str, Any], ...] = ()
    """Options of the domain that have other values while it is in force."""
    duration: float = 0.0
    """Seconds; 0: until the domain is resumed."""

    @property
    def fingerprint(self) -> str:
        """Other for another rule, also after a restart."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    @property
    def effect(self) -> str:
        """What it does, for people."""
        done = ["suspend"] if self.suspend else []
        if self.fail != "none":
            done.append(f"fail {self.fail}")
        done += [f"{option} {'none' if value is None else value}" for option, value in self.values]
        return ", ".join(done)

    def __str__(self) -> str:
        return f"{self.name}: {self.effect}"


class RuleBook:
    """The rules of a stanza, in the order of the file."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self.counts_successes = any(rule.without_success for rule in self.rules)
        self._codes = [[re.compile(code.replace("x", r"\d")) for code in rule.codes] for rule in self.rules]
        self._reasons = [[compile_reason(reason) for reason in rule.reasons] for rule in self.rules]
        self._remembered: dict[tuple[str, str, bool], tuple[Rule, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RuleBook) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)

    def rule(self, name: str) -> Rule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def matching(self, code: str, text: str, *, permanent: bool) -> tuple[Rule, ...]:
        """The rules that an answer matches."""
        key = code, text, permanent
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = self._match(code, text, "permanent" if permanent else "transient")
        return found

    def _match(self, code: str, text: str, kind: Kind) -> tuple[Rule, ...]:
        if _OURS in text:
            return ()
        return tuple(
            rule
            for rule, codes, reasons in zip(self.rules, self._codes, self._reasons, strict=True)
            if rule.kind in ("any", kind)
            and (not codes or any(each.fullmatch(code) for each in codes))
            and (not reasons or any(_is(text, each) for each in reasons))
        )


def _is(text: str, reason: str | re.Pattern[str]) -> bool:
    return text == reason if isinstance(reason, str) else reason.search(text[:LONGEST_TEXT]) is not None


def compile_reason(reason: str) -> str | re.Pattern[str]:
    """The text, or the expression between slashes, that *reason* means. Raises ValueError."""
    expression = expression_of(reason)
    if expression is None:
        return reason
    if not expression or len(expression) > LONGEST_EXPRESSION:
        raise ValueError(f"expected an expression of 1 to {LONGEST_EXPRESSION} characters between two slashes")
    try:
        compiled = re.compile(expression, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    _refuse_if_slow(expression)
    return compiled


def _refuse_if_slow(expression: str) -> None:
    """Raises ValueError where a text that does not match could take long."""
    pieces = [match[0] for match in _PIECE.finditer(expression)]
    groups: list[bool] = [False]  # of each group that is open: whether it holds a repetition or alternatives
    repeats = sum(piece != "?" and _REPEAT.fullmatch(piece) is not None for piece in pieces)
    closed = False
    for piece in pieces:
        if _REPEAT.fullmatch(piece):
            if closed and piece != "?":
                raise ValueError("a group that is repeated can hold neither a repetition nor alternatives")
            groups[-1] = True
            closed = False
        elif piece.startswith("("):
            groups.append(False)
            closed = False
        elif piece == ")":
            closed = groups.pop() if len(groups) > 1 else False
            groups[-1] = groups[-1] or closed
        else:
            groups[-1] = groups[-1] or piece == "|"
            closed = False
    if max(repeats, pieces.count("?")) > MOST_REPETITIONS:
        raise ValueError(
            f"has more than {MOST_REPETITIONS} repetitions (* + {{}}), or so many ?; name several expressions instead"
        )
