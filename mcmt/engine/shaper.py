"""The one who counts what the shaping rules match, over all engines of the machine, and says what is in force.

An engine tells what a burst of answers matched (rule_watch.py), nothing of deliveries that succeed, and nothing of a
rule that is in force. Where a rule is met it is in force at that domain from now on, for its duration: every engine is
told, the throttles and connections that it sets are granted by the one who grants, and it is kept over restarts.

Rules:
* A count is of the domain and the rule, over the last ``within`` seconds, to a hundredth of them.
* Nothing is told from within a call: who tells what matched is in the middle of its own work.
* Durations are measured: a clock that jumps ends nothing. While nothing runs they go on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from mcmt.channel.port import State
from mcmt.clock import Clock
from mcmt.config.rate import Rate
from mcmt.config.rules import Rule
from mcmt.config.settings import Settings
from mcmt.config.shaped import pool_of, shaped
from mcmt.config.throttle import rates_of, throttles
from mcmt.engine.alarm import Alarm
from mcmt.engine.rulings import Ruling, ShapedEngine, store, stored
from mcmt.errors import SpoolError

log = logging.getLogger(__name__)

MAX_COUNTS: Final = 10_000
"""Counts under way; past that the one that began first is forgotten."""
MAX_RULINGS: Final = 10_000
"""Rules in force, over all domains; past that none begins."""
_KEEP: Final = 0.1
"""Seconds after which what began or ended is on disk: many domains may fall to a rule at once."""


class _Count:
    """How often a rule was matched at a domain."""

    def __init__(self) -> None:
        self._parts: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, count: int, now: float, within: float) -> int:
        """*count* more; how many there are now."""
        while self._parts and self._parts[0][0] <= now - within:
            self._sum -= self._parts.popleft()[1]
        if self._parts and now - self._parts[-1][0] < within / 100:
            since, before = self._parts.pop()
            self._parts.append((since, before + count))
        else:
            self._parts.append((now, count))
        self._sum += count
        return self._sum


class Shaper:
    """``mcmt.engine.rulings.Shaping`` over all engines."""

    def __init__(
        self, settings: Settings, state: State, clock: Clock, granted: Callable[[], None] = lambda: None
    ) -> None:
        """*granted*: called when ``throttles`` and ``connections_of`` have changed. Raises SpoolError."""
        self._settings = settings
        self._state = state
        self._clock = clock
        self._granted = granted
        self._engines: list[ShapedEngine] = []
        self._counts: dict[tuple[str, str], _Count] = {}
        self._in_force: dict[str, dict[str, Ruling]] = {}  # by domain and rule
        self._ends: dict[tuple[str, str], float] = {}  # monotonic
        self._began: dict[tuple[str, str], tuple[Ruling, ShapedEngine]] = {}
        """Not told yet, with the engine that is to tell the logs."""
        self._ended: list[tuple[Ruling, str]] = []
        """Not told yet, with the reason."""
        self._dirty = False
        self._alarm = Alarm(clock, self._rung)
        self._keeping = Alarm(clock, self._keep)
        self._telling = Alarm(clock, self._tell)
        for ruling in stored(state):
            self._take_up(ruling)

    def _take_up(self, ruling: Ruling) -> None:
        """Go on with what was in force before the start."""
        rule, left = ruling.rule_in(self._settings), ruling.until - self._clock.time()
        if rule is None or (ruling.until and left <= 0):
            why = "the configuration has it no more, or has it otherwise" if rule is None else "its time was up"
            self._ended.append((ruling, why))
            self._changed()
            return
        # No longer than it would have lasted in the first place, wherever the clock is now.
        self._begin(ruling, min(left, rule.duration) if ruling.until else 0.0)

    # -- what engines tell ------------------------------------------------------------------------------------------

    def join(self, engine: ShapedEngine) -> None:
        """See Shaping."""
        self._engines.append(engine)
        self._remind(engine)
        if self._ended:
            self._telling.within(0.0)

    def reloaded(self) -> None:
        """Every engine goes by the settings of ``reload`` now: what began meanwhile was of a rule that some had not."""
        for engine in self._engines:
            self._remind(engine)

    def _remind(self, engine: ShapedEngine) -> None:
        for found in self._in_force.values():
            for ruling in found.values():
                if (ruling.domain, ruling.rule) not in self._began:
                    engine.rule_began(ruling, new=False, tell=False)

    def leave(self, engine: ShapedEngine) -> None:
        """See Shaping."""
        if engine in self._engines:
            self._engines.remove(engine)

    def matched(self, engine: ShapedEngine, domain: str, rule: str, count: int, answer: str) -> None:
        """See Shaping."""
        key = domain, rule
        stanza = self._settings.domain(domain)
        found = None if stanza is None else stanza.rules.rule(rule)
        if found is None or rule in self._in_force.get(domain, ()):
            return
        if (counted := self._counts.get(key)) is None:
            if len(self._counts) >= MAX_COUNTS:
                del self._counts[next(iter(self._counts))]
            counted = self._counts[key] = _Count()
            if found.without_success:
                self._clock.call_later(0.0, lambda: self._await_success(domain))
        if counted.add(count, self._clock.monotonic(), found.within) >= found.times:
            self._met(engine, domain, found, answer)

    def _await_success(self, domain: str) -> None:
        for each in self._engines:
            each.rule_counts(domain)

    def succeeded(self, domain: str) -> None:
        """See Shaping."""
        stanza = self._settings.domain(domain)
        for rule in () if stanza is None else stanza.rules:
            if rule.without_success:
                self._counts.pop((domain, rule.name), None)

    def resumed(self, domain: str) -> None:
        """See Shaping."""
        for key in [key for key in self._counts if key[0] == domain]:
            del self._counts[key]
        for rule in tuple(self._in_force.get(domain, ())):
            self._end(domain, rule, "by hand")

    # -- what begins and ends ---------------------------------------------------------------------------------------

    def _met(self, engine: ShapedEngine, domain: str, rule: Rule, answer: str) -> None:
        del self._counts[domain, rule.name]
        if sum(map(len, self._in_force.values())) >= MAX_RULINGS:
            log.error("%s: rule %s is met, and not in force: %d others are", domain, rule.name, MAX_RULINGS)
            return
        now = self._clock.time()
        success = ", none accepted" if rule.without_success else ""
        reason = f"{rule.times} answers within {rule.within:g} s{success}, the last one {answer}"
        until = now + rule.duration if rule.duration else 0.0
        ruling = Ruling(domain, rule.name, reason, now, until, rule.fingerprint)
        self._begin(ruling, rule.duration)
        self._began[domain, rule.name] = ruling, engine
        self._telling.within(0.0)
        self._changed()

    def _begin(self, ruling: Ruling, seconds: float) -> None:
        self._in_force.setdefault(ruling.domain, {})[ruling.rule] = ruling
        if seconds:
            self._ends[ruling.domain, ruling.rule] = self._clock.monotonic() + seconds
            self._alarm.within(seconds)

    def _end(self, domain: str, rule: str, why: str) -> None:
        ruling = self._in_force[domain].pop(rule)
        if not self._in_force[domain]:
            del self._in_force[domain]
        self._ends.pop((domain, rule), None)
        if self._began.pop((domain, rule), None) is None:  # else nobody has heard of it
            self._ended.append((ruling, why))
            self._telling.within(0.0)
        self._changed()

    def _tell(self) -> None:
        """Tell what has begun and ended since the last time: many domains may fall to a rule at once."""
        engines = tuple(self._engines)
        began, self._began = self._began, {}
        if engines:
            ended, self._ended = self._ended, []
            for ruling, why in ended:
                for number, each in enumerate(engines):
                    each.rule_ended(ruling, why, tell=number == 0)
        # When nobody draws any more on what has ended, and before anybody does on what begins.
        self._granted()
        for ruling, teller in began.values():
            for each in engines:
                each.rule_began(ruling, new=True, tell=each is teller)

    def _rung(self) -> None:
        now = self._clock.monotonic()
        for domain, rule in [key for key, end in self._ends.items() if end <= now]:
            self._end(domain, rule, "its time is up")
        if self._ends:
            self._alarm.within(min(self._ends.values()) - now)

    def reload(self, settings: Settings) -> None:
        """Other settings hold: rules that have changed or gone end at once, and their counts."""
        before, self._settings = self._settings, settings
        for ruling in [ruling for found in self._in_force.values() for ruling in found.values()]:
            if ruling.rule_in(settings) is None:
                self._end(ruling.domain, ruling.rule, "the configuration was reloaded")
        for domain, name in tuple(self._counts):
            old, now = before.domain(domain), settings.domain(domain)
            if old is None or now is None or old.rules.rule(name) != now.rules.rule(name):
                del self._counts[domain, name]

    def close(self) -> None:
        """Keep what is not on disk yet; then nothing more happens."""
        self._alarm.cancel()
        self._telling.cancel()
        self._keeping.cancel()
        if self._dirty:
            self._keep()

    def _changed(self) -> None:
        self._dirty = True
        self._keeping.within(_KEEP)

    def _keep(self) -> None:
        try:
            store(self._state, [ruling for found in self._in_force.values() for ruling in found.values()])
            self._dirty = False
        except SpoolError as error:
            log.error("which rules are in force cannot be kept over a restart: %s", error)

    # -- what is granted --------------------------------------------------------------------------------------------

    def throttles(self) -> Mapping[str, Rate]:
        """Every throttle: the configuration's, and those of rules in force."""
        rates = dict(throttles(self._settings))
        for domain, found in self._in_force.items():
            if (stanza := self._settings.domain(domain)) is not None:
                rates |= rates_of(shaped(stanza, domain, found))
        return rates

    def connections_of(self, pool: str) -> int:
        """The limit of the connections that are borrowed under this name (mcmt/config/shaped.py)."""
        stanza, _, domain = pool.partition("\n")
        if not domain:
            return self._settings.connections_of(stanza)
        settings = self._settings.domain(domain)
        ruled = None if settings is None else shaped(settings, domain, self._in_force.get(domain, ()))
        return ruled.max_outbound_connections if ruled is not None and pool_of(ruled, domain) == pool else 0
