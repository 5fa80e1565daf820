"""Rules in force: what the one who counts (shaper.py) tells every engine, and what an engine makes of it.

Rules: news may come late or twice. A rule that the configuration has not, or has otherwise, is in force nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from mcmt.channel.port import State
from mcmt.config.rules import Rule
from mcmt.config.settings import DomainSettings, Settings
from mcmt.config.shaped import shaped

SCOPE: Final = "rules"
"""Of the state store."""
_KEY: Final = "in force"
MAX_COUNTING: Final = 10_000
"""Domains whose next success is to be told; past that one of them is forgotten, as its count will be."""


class Ruling(msgspec.Struct, frozen=True):
    """A rule that is in force at a domain."""

    domain: str
    rule: str
    reason: str
    since: float
    """Seconds since the epoch."""
    until: float
    """Likewise; 0: until the domain is resumed."""
    fingerprint: str
    """Of the rule as it was (mcmt/config/rules.py)."""

    def rule_in(self, settings: Settings) -> Rule | None:
        """The rule, if it is the configuration's still."""
        stanza = settings.domain(self.domain)
        rule = None if stanza is None else stanza.rules.rule(self.rule)
        return rule if rule is not None and rule.fingerprint == self.fingerprint else None


class ShapedEngine(Protocol):
    """One engine, as the one who counts sees it."""

    def rule_began(self, ruling: Ruling, *, new: bool, tell: bool) -> None:
        """A rule is in force. *new*: since now, and what it does once is to be done. *tell* the logs: one engine
        does."""

    def rule_ended(self, ruling: Ruling, why: str, *, tell: bool) -> None:
        """It is in force no more."""

    def rule_counts(self, domain: str) -> None:
        """A count has begun that a success in *domain* would end: the next one is to be told."""


class Shaping(Protocol):
    """What an engine asks of the one who counts."""

    def join(self, engine: ShapedEngine) -> None:
        """Tell this engine as well, beginning with what is in force."""

    def leave(self, engine: ShapedEngine) -> None:
        """Not any more."""

    def matched(self, engine: ShapedEngine, domain: str, rule: str, count: int, answer: str) -> None:
        """So many answers have matched the rule, the last of them *answer*."""

    def succeeded(self, domain: str) -> None:
        """A delivery was accepted, after ``rule_counts``."""

    def resumed(self, domain: str) -> None:
        """An operator has resumed the domain: no rule is in force there, and every count begins anew."""


def stored(state: State) -> list[Ruling]:
    """What was in force when it was kept last. Raises SpoolError."""
    kept = state.get(_KEY)
    return msgspec.json.decode(kept, type=list[Ruling]) if kept else []


def store(state: State, rulings: list[Ruling]) -> None:
    """Keep what is in force; on disk when this returns. Raises SpoolError."""
    state.put(_KEY, msgspec.json.encode(rulings))


class Rulings:
    """The rules in force, as one engine knows them."""

    def __init__(self, state: State, settings: Settings) -> None:
        self._settings = settings
        self._by_domain: dict[str, dict[str, tuple[Ruling, Rule]]] = {}
        self.counting: set[str] = set()
        """Domains whose next success is to be told."""
        for ruling in stored(state):
            self.begin(ruling)

    def begin(self, ruling: Ruling) -> Rule | None:
        """It is in force; None: the configuration has no such rule."""
        rule = ruling.rule_in(self._settings)
        if rule is not None:
            self._by_domain.setdefault(ruling.domain, {})[ruling.rule] = (ruling, rule)
        return rule

    def end(self, domain: str, rule: str | None = None) -> bool:
        """It, or with None every rule of the domain, is in force no more; whether one was."""
        found = self._by_domain.get(domain, {})
        ended = [name for name in found if rule in (None, name)]
        for name in ended:
            del found[name]
        if not found:
            self._by_domain.pop(domain, None)
        return bool(ended)

    def reload(self, settings: Settings) -> None:
        """Other settings hold: what is not in them as it was has ended."""
        self._settings = settings
        before, self._by_domain = self._by_domain, {}
        for found in before.values():
            for ruling, _ in found.values():
                self.begin(ruling)

    def of(self, domain: str) -> Mapping[str, tuple[Ruling, Rule]]:
        """Those in force at *domain*, by name."""
        return self._by_domain.get(domain, {})

    def ordered(self, domain: str) -> Sequence[tuple[Ruling, Rule]]:
        """Those in force at *domain*, in the order of the file."""
        found, stanza = self._by_domain.get(domain), self._settings.domain(domain)
        if not found or stanza is None:
            return ()
        return [found[rule.name] for rule in stanza.rules if rule.name in found]

    @property
    def domains(self) -> Collection[str]:
        """Where there are any."""
        return self._by_domain.keys()

    def await_success(self, domain: str) -> None:
        """The next success in *domain* is to be told."""
        if len(self.counting) >= MAX_COUNTING:
            self.counting.pop()
        self.counting.add(domain)

    def settings(self, domain: str) -> DomainSettings | None:
        """What holds for *domain*: its stanza's settings, and what the rules set."""
        stanza = self._settings.domain(domain)
        found = self._by_domain.get(domain)
        return stanza if stanza is None or not found else shaped(stanza, domain, found.keys())

    def suspension(self, domain: str) -> str:
        """Why the domain is suspended; empty: no rule suspends it."""
        found = self._by_domain.get(domain)
        if not found:
            return ""
        return "; ".join(f"{ruling.rule}: {ruling.reason}" for ruling, rule in found.values() if rule.suspend)

    def failing(self, domain: str) -> frozenset[str]:
        """The rules whose answers fail deliveries."""
        found = self._by_domain.get(domain)
        return frozenset(name for name, (_, rule) in found.items() if rule.fail == "matching") if found else frozenset()
