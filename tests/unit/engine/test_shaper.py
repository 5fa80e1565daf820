"""Who counts what rules match: when a rule begins, when it ends, what is kept, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcmt.config.rate import Rate
from mcmt.config.rules import Rule, RuleBook
from mcmt.config.settings import DomainSettings, EventLogSettings, Settings, SpoolSettings
from mcmt.config.throttle import throttle_of
from mcmt.engine.rulings import SCOPE, Ruling
from mcmt.engine.shaper import Shaper
from mcmt.errors import SpoolError
from mcmt.spool.state import StateStore
from tests.support.manual_clock import ManualClock

DOMAIN = "a.example.com"


class Engine:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def rule_began(self, ruling: Ruling, *, new: bool, tell: bool) -> None:
        self.heard.append(("began", ruling.domain, ruling.rule, new, tell))

    def rule_ended(self, ruling: Ruling, why: str, *, tell: bool) -> None:
        self.heard.append(("ended", ruling.domain, ruling.rule, why, tell))

    def rule_counts(self, domain: str) -> None:
        self.heard.append(("counts", domain))


def rule(name: str = "busy", **given: Any) -> Rule:
    values: dict[str, Any] = {"codes": ("429",), "times": 10, "within": 60.0, "suspend": True, "duration": 600.0}
    return Rule(name=name, **(values | given))


def settings_of(*rules: Rule, **given: Any) -> Settings:
    def domain(name: str) -> DomainSettings:
        return DomainSettings(
            name=name, delivery_method="test", routes=(), options=None, rules=RuleBook(rules), **given
        )

    return Settings(
        file=Path("mcmt.yaml"),
        hostname="mx.example.com",
        workers=2,
        spool=SpoolSettings(path=Path("spool")),
        listen=(),
        domains={name: domain(name) for name in ("*", DOMAIN)},
        channel_loggers=(),
        mainlog=(EventLogSettings(name="ec_logger.main", channel=None, logfile=Path("mainlog.ec")),),
        rejectlog=(),
        control_socket=Path("control.sock"),
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    store = StateStore.open(tmp_path)
    yield store
    store.close()


class Machine:
    """The one who counts, and two engines."""

    def __init__(self, clock: ManualClock, state: StateStore, settings: Settings) -> None:
        self.clock = clock
        self.shaper = Shaper(settings, state.scope(SCOPE), clock)
        self.first, self.second = Engine(), Engine()
        for engine in (self.first, self.second):
            self.shaper.join(engine)

    def matched(self, engine: Engine, count: int, domain: str = DOMAIN, name: str = "busy") -> None:
        self.shaper.matched(engine, domain, name, count, "429 TooManyRequests")
        self.clock.advance(0.0)

    def heard(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Since the last time, by engine."""
        heard = self.first.heard, self.second.heard
        self.first.heard, self.second.heard = [], []
        return heard


BEGAN = ("began", DOMAIN, "busy", True)


def test_answers_of_all_engines_count_together(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule()))
    machine.matched(machine.first, 5)
    machine.matched(machine.second, 4)
    assert machine.heard() == ([], [])
    machine.matched(machine.second, 1)
    assert machine.heard() == ([(*BEGAN, False)], [(*BEGAN, True)]), "the one that saw the last of them tells the logs"
    machine.matched(machine.first, 100)
    assert machine.heard() == ([], []), "it is in force"


def test_each_domain_counts_for_itself(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule()))
    for number in range(5):
        machine.matched(machine.first, 9, f"d{number}.example.com")
    assert machine.heard() == ([], [])


def test_what_is_older_than_the_span_does_not_count(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule()))
    machine.matched(machine.first, 9)
    clock.advance(61.0)
    machine.matched(machine.first, 9)
    assert machine.heard() == ([], [])
    clock.advance(30.0)
    machine.matched(machine.first, 1)
    assert machine.heard()[0] == [(*BEGAN, True)]


def test_a_success_between_ends_a_count_that_is_only_without_one(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule(without_success=True), rule("other")))
    machine.matched(machine.first, 9)
    machine.matched(machine.first, 9, name="other")
    assert machine.heard() == ([("counts", DOMAIN)], [("counts", DOMAIN)]), "a success of any engine is to be told"
    machine.matched(machine.second, 0)
    machine.shaper.succeeded(DOMAIN)
    machine.matched(machine.second, 9)
    assert machine.heard() == ([("counts", DOMAIN)], [("counts", DOMAIN)])
    machine.matched(machine.second, 1, name="other")
    assert machine.heard()[1] == [("began", DOMAIN, "other", True, True)], "the other one counts on"
    machine.matched(machine.second, 1)
    assert machine.heard()[1] == [(*BEGAN, True)]


def test_it_ends_after_its_duration_whatever_the_clock_on_the_wall_does(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule()))
    machine.matched(machine.first, 10)
    machine.heard()
    clock.jump(86400.0)
    clock.advance(599.0)
    assert machine.heard() == ([], [])
    clock.advance(1.0)
    ended = ("ended", DOMAIN, "busy", "its time is up")
    assert machine.heard() == ([(*ended, True)], [(*ended, False)])
    machine.matched(machine.first, 9)
    assert machine.heard() == ([], []), "the count begins anew"


def test_an_operator_ends_every_rule_of_a_domain_and_every_count(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule(duration=0.0), rule("other")))
    machine.matched(machine.first, 10)
    machine.matched(machine.first, 9, name="other")
    clock.advance(10.0)
    machine.heard()
    machine.shaper.resumed(DOMAIN)
    machine.shaper.resumed(DOMAIN)  # as every shard's engine says it
    clock.advance(0.0)
    assert machine.heard()[0] == [("ended", DOMAIN, "busy", "by hand", True)]
    machine.matched(machine.first, 9, name="other")
    assert machine.heard() == ([], [])


def test_what_is_in_force_is_after_a_restart_for_the_rest_of_its_time(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule(), rule("for ever", duration=0.0)))
    machine.matched(machine.first, 10)
    machine.matched(machine.first, 10, name="for ever")
    clock.advance(100.0)
    machine.shaper.close()
    clock.advance(100.0)
    after = Machine(clock, state, settings_of(rule(), rule("for ever", duration=0.0)))
    assert after.heard()[0] == [(*BEGAN[:3], False, False), ("began", DOMAIN, "for ever", False, False)]
    clock.advance(399.0)
    assert after.heard() == ([], [])
    clock.advance(2.0)
    assert [each[:3] for each in after.heard()[0]] == [("ended", DOMAIN, "busy")]


def test_what_ended_while_nothing_ran_is_told_at_the_start(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule(), rule("gone", duration=0.0)))
    machine.matched(machine.first, 10)
    machine.matched(machine.first, 10, name="gone")
    machine.shaper.close()
    clock.advance(601.0)
    after = Machine(clock, state, settings_of(rule(), rule("gone", duration=0.0, times=7)))
    clock.advance(0.0)
    told, also = after.heard()
    assert told == [
        ("ended", DOMAIN, "busy", "its time was up", True),
        ("ended", DOMAIN, "gone", "the configuration has it no more, or has it otherwise", True),
    ]
    assert [each[-1] for each in also] == [False, False]
    after.shaper.close()
    again = Machine(clock, state, settings_of(rule(), rule("gone")))
    clock.advance(0.0)
    assert again.heard() == ([], []), "told once"


def test_what_begins_and_ends_before_anybody_was_told_is_not_told(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule()))
    machine.shaper.matched(machine.first, DOMAIN, "busy", 10, "429")
    machine.shaper.resumed(DOMAIN)
    clock.advance(0.0)
    assert machine.heard() == ([], [])


def test_an_engine_that_joins_late_is_told_what_is_in_force_once(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule()))
    machine.shaper.matched(machine.first, DOMAIN, "busy", 10, "429")
    late, later = Engine(), Engine()
    machine.shaper.join(late)
    clock.advance(0.0)
    machine.shaper.join(later)
    assert late.heard == [(*BEGAN, False)]
    assert later.heard == [("began", DOMAIN, "busy", False, False)]
    machine.shaper.leave(late)
    clock.advance(600.0)
    assert len(late.heard) == 1
    assert len(later.heard) == 2


def test_a_reload_ends_what_it_changes_and_leaves_the_rest(clock: ManualClock, state: StateStore) -> None:
    machine = Machine(clock, state, settings_of(rule(), rule("other"), rule("counting")))
    for name in ("busy", "other"):
        machine.matched(machine.first, 10, name=name)
    machine.matched(machine.first, 9, name="counting")
    machine.heard()
    machine.shaper.reload(settings_of(rule(times=5), rule("other"), rule("counting", within=30.0)))
    clock.advance(0.0)
    assert machine.heard()[0] == [("ended", DOMAIN, "busy", "the configuration was reloaded", True)]
    machine.matched(machine.first, 1, name="counting")
    assert machine.heard() == ([], [])


def test_a_rule_that_is_met_while_engines_still_read_the_configuration_is_told_once_more(
    clock: ManualClock, state: StateStore
) -> None:
    machine = Machine(clock, state, settings_of())
    machine.shaper.reload(settings_of(rule()))
    machine.matched(machine.first, 10)
    machine.heard()
    machine.shaper.reloaded()
    assert machine.heard() == ([(*BEGAN[:3], False, False)], [(*BEGAN[:3], False, False)])


def test_what_a_rule_sets_is_granted_to_the_domain_alone_while_it_is_in_force(
    clock: ManualClock, state: StateStore
) -> None:
    values = (("max_outbound_connections", 2), ("outbound_throttle_messages", Rate(10)))
    settings = settings_of(rule(values=values), outbound_throttle_messages=Rate(1000))
    machine = Machine(clock, state, settings)
    grants: list[int] = []
    machine.shaper._granted = lambda: grants.append(len(machine.first.heard))
    pool = f"*\n{'x.example.com'}"
    machine.matched(machine.first, 10, "x.example.com")
    assert set(machine.shaper.throttles().values()) == {Rate(10), Rate(1000)}
    assert (machine.shaper.connections_of(pool), machine.shaper.connections_of("*")) == (2, 32)
    clock.advance(600.0)
    assert set(machine.shaper.throttles().values()) == {Rate(1000)}
    assert machine.shaper.connections_of(pool) == 0
    assert grants == [0, 2], "there before an engine draws on it, and until none does"
    assert throttle_of(settings.domains["*"], "outbound_throttle_messages") in machine.shaper.throttles()


def test_the_counts_are_bounded(clock: ManualClock, state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcmt.engine.shaper.MAX_COUNTS", 10)
    monkeypatch.setattr("mcmt.engine.shaper.MAX_RULINGS", 3)
    machine = Machine(clock, state, settings_of(rule(times=2)))
    for number in range(11):
        machine.matched(machine.first, 1, f"d{number}.example.com")
    machine.matched(machine.first, 1, "d0.example.com")
    assert machine.heard()[0] == [], "the count that began first is forgotten"
    for number in range(5, 11):
        machine.matched(machine.first, 1, f"d{number}.example.com")
    assert len(machine.heard()[0]) == 3


def test_what_cannot_be_kept_holds_all_the_same(
    clock: ManualClock, state: StateStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SpoolError("the disk is full")

    machine = Machine(clock, state, settings_of(rule()))
    monkeypatch.setattr("mcmt.engine.shaper.store", full)
    machine.matched(machine.first, 10)
    clock.advance(1.0)
    assert machine.heard()[0] == [(*BEGAN, True)]
    assert "cannot be kept over a restart" in caplog.text


def test_a_rule_that_is_another_one_has_another_fingerprint() -> None:
    one = rule(values=(("outbound_throttle_messages", Rate(10)),))
    assert one.fingerprint == msgspec.structs.replace(one).fingerprint
    assert one.fingerprint != msgspec.structs.replace(one, times=11).fingerprint
