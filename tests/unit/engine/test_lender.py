"""One limit on connections over all engines of a machine."""

from __future__ import annotations

from mcmt.engine.lender import GRACE, TURN, Lender
from tests.support.manual_clock import ManualClock

STANZA = "apn.example.com"


class Engine:
    """A holder that gives back what it is asked for, or does not."""

    def __init__(self, lender: Lender, generous: bool = False) -> None:
        self.lender = lender
        self.generous = generous
        self.held = 0
        self.recalls: list[bool] = []

    def want(self, count: int = 1) -> Engine:
        for _ in range(count):
            self.lender.want(STANZA, self)
        return self

    def give_back(self) -> None:
        self.held -= 1
        self.lender.give_back(STANZA, self)

    def granted(self) -> None:
        self.held += 1

    def recalled(self, *, busy: bool) -> None:
        self.recalls.append(busy)
        if busy and self.generous:
            self.give_back()


def make(limit: int) -> tuple[Lender, ManualClock]:
    clock = ManualClock()
    return Lender({STANZA: limit}.__getitem__, clock), clock


def test_one_engine_may_have_all_when_nobody_else_wants_any() -> None:
    lender, _ = make(3)
    engine = Engine(lender).want(5)
    assert engine.held == 3


def test_never_more_than_the_limit_over_all_engines() -> None:
    lender, clock = make(3)
    engines = [Engine(lender, generous=True) for _ in range(4)]
    for number in range(200):
        engine = engines[number % 4]
        if engine.held and number % 3 == 0:
            engine.give_back()
        else:
            engine.want()
        clock.advance(0.1)
        assert sum(engine.held for engine in engines) <= 3


def test_who_holds_more_than_its_share_is_asked_for_a_busy_one_at_once() -> None:
    lender, _ = make(4)
    rich = Engine(lender, generous=True).want(4)
    poor = Engine(lender).want()
    assert (rich.held, poor.held) == (3, 1)
    poor.want(2)
    assert (rich.held, poor.held) == (2, 2), "each has its share: the third want waits"


def test_a_single_connection_goes_round_after_a_turn() -> None:
    lender, clock = make(1)
    first = Engine(lender, generous=True).want()
    second = Engine(lender, generous=True).want()
    assert first.recalls == [False], "it may keep the connection while it is busy"
    clock.advance(TURN - 1.1)
    assert (first.held, second.held) == (1, 0)
    clock.advance(1.2)
    assert (first.held, second.held) == (0, 1)
    first.want()
    clock.advance(TURN + 1.1)
    assert (first.held, second.held) == (1, 0)


def test_wants_are_served_in_their_order() -> None:
    lender, _ = make(1)
    holder = Engine(lender).want()
    waiting = [Engine(lender).want() for _ in range(3)]
    for number, engine in enumerate(waiting):
        (holder if number == 0 else waiting[number - 1]).give_back()
        assert [one.held for one in waiting] == [1 if one is engine else 0 for one in waiting]


def test_the_connections_of_a_dead_engine_count_until_the_gateway_has_seen_them_end() -> None:
    lender, clock = make(2)
    dead = Engine(lender).want(3)
    waiting = Engine(lender).want(2)
    lender.lost(dead)
    assert waiting.held == 0
    clock.advance(GRACE / 2)
    assert waiting.held == 0
    clock.advance(GRACE)
    assert waiting.held == 2
    assert dead.held == 2, "what it still wanted is forgotten"


def test_what_a_dead_engine_gives_back_late_is_not_counted_twice() -> None:
    lender, clock = make(2)
    dead = Engine(lender).want(2)
    lender.lost(dead)
    dead.give_back()
    clock.advance(2 * GRACE)
    assert Engine(lender).want(5).held == 2


def test_nobody_is_asked_any_more_when_nobody_waits() -> None:
    lender, clock = make(1)
    holder = Engine(lender).want()
    waiting = Engine(lender).want()
    holder.give_back()
    asked = len(waiting.recalls)
    clock.advance(10 * TURN)
    assert len(waiting.recalls) == asked


def test_a_limit_that_was_lowered_holds_for_what_is_granted_from_then_on() -> None:
    lender, _ = make(3)
    engine = Engine(lender).want(4)
    lender.reload({STANZA: 1}.__getitem__)
    engine.give_back()
    engine.give_back()
    assert engine.held == 1
    engine.give_back()
    assert engine.held == 1
    lender.reload({STANZA: 2}.__getitem__)
    assert engine.want().held == 2
