"""One rate over all engines of a machine, and all domains that share it."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mcmt.config.rate import Rate
from mcmt.engine.allowance import Allowance
from mcmt.engine.throttles import BURST, Throttles
from tests.support.manual_clock import ManualClock

NAME = "outbound_throttle_messages"


class Queue:
    """A domain that begins what it may, as long as its connection has room."""

    def __init__(self, allowance: Allowance, clock: ManualClock, room: int = 1_000_000) -> None:
        self.allowance = allowance
        self.clock = clock
        self.room = room
        self.ready = 0
        self.begun: list[float] = []

    def offer(self, count: int) -> None:
        self.ready += count
        self.permitted()

    def permitted(self) -> None:
        while self.ready:
            got = self.allowance.take(self, self.ready)
            begun = min(got, self.room)
            self.ready -= begun
            self.room -= begun
            self.begun += [self.clock.monotonic()] * begun
            if begun < got:
                self.allowance.give_back(self, got - begun)
            if not begun:
                return


def fastest(times: list[float], rate: Rate) -> float:
    """By how much the rate was passed in the worst span of all, in deliveries."""
    times = sorted(times)
    return max(
        number - first + 1 - (time - times[first]) * rate.per_second
        for first in range(len(times))
        for number, time in list(enumerate(times))[first:]
    )


def make(rate: Rate) -> tuple[Throttles, ManualClock]:
    clock = ManualClock()
    return Throttles({NAME: rate}, clock), clock


def test_what_waits_is_begun_at_the_rate_and_nothing_is_lost_of_it() -> None:
    throttles, clock = make(Rate(100))
    queue = Queue(Allowance(NAME, throttles), clock)
    queue.offer(1000)
    clock.advance(5.0)
    assert 500 <= len(queue.begun) <= 500 + 100 * BURST
    assert fastest(queue.begun[:400], Rate(100)) <= 100 * BURST + 0.001


def test_a_slow_rate_is_spread_evenly() -> None:
    throttles, clock = make(Rate(10, 60.0))
    queue = Queue(Allowance(NAME, throttles), clock)
    queue.offer(100)
    clock.advance(60.0)
    assert [round(time - 1000.0) for time in queue.begun] == list(range(0, 61, 6))


@settings(max_examples=60, deadline=None)
@given(
    rate=st.builds(Rate, st.integers(1, 300), st.sampled_from([1.0, 7.0, 60.0])),
    engines=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_over_all_engines_and_domains_no_span_of_time_has_more_than_the_rate_and_its_burst(
    rate: Rate, engines: int, seed: int
) -> None:
    throttles, clock = make(rate)
    random = Random(seed)
    queues = [
        Queue(allowance, clock) for allowance in (Allowance(NAME, throttles) for _ in range(engines)) for _ in range(2)
    ]
    for _ in range(60):
        queue = random.choice(queues)
        queue.room = random.choice([0, 1, 3, 1_000_000])
        queue.offer(random.choice([0, 1, 2, 50]))
        clock.advance(random.choice([0.0, 0.003, 0.1, 0.5]))
    times = [time for queue in queues for time in queue.begun]
    if times:
        assert fastest(times, rate) <= max(1.0, rate.per_second * BURST) + 0.001


def test_engines_and_domains_that_wait_get_equal_parts() -> None:
    throttles, clock = make(Rate(100))
    queues = [Queue(allowance, clock) for allowance in (Allowance(NAME, throttles), Allowance(NAME, throttles))]
    queues.append(Queue(queues[0].allowance, clock))
    for queue in queues:
        queue.offer(10_000)
    clock.advance(20.0)
    parts = [len(queue.begun) for queue in queues]
    assert 1990 <= sum(parts) <= 2030
    assert abs(parts[1] - 1000) <= 60, "half for each engine"
    assert abs(parts[0] - parts[2]) <= 60, "and within one, half for each domain"


def test_what_a_domain_cannot_begin_the_others_can_at_once() -> None:
    throttles, clock = make(Rate(100))
    full = Queue(Allowance(NAME, throttles), clock, room=0)
    other = Queue(Allowance(NAME, throttles), clock)
    full.offer(1000)
    other.offer(1000)
    for _ in range(100):
        full.permitted()  # something came in for it, again and again
        clock.advance(0.1)
    assert len(full.begun) == 0
    assert len(other.begun) >= 1000 - 100 * BURST


def test_an_engine_that_died_keeps_nobody_waiting_and_nothing_is_granted_twice() -> None:
    throttles, clock = make(Rate(10))
    dead, alive = Allowance(NAME, throttles), Queue(Allowance(NAME, throttles), clock)
    lost = Queue(dead, clock)
    lost.offer(1000)
    alive.offer(1000)
    clock.advance(2.0)
    throttles.lost(dead)
    before, died = len(alive.begun), len(lost.begun)
    clock.advance(10.0)
    assert len(lost.begun) == died
    assert 99 <= len(alive.begun) - before <= 101, "all of the rate, and no more"


def test_another_rate_holds_at_once_and_without_one_nobody_waits() -> None:
    throttles, clock = make(Rate(10))
    queue = Queue(Allowance(NAME, throttles), clock)
    queue.offer(5000)
    clock.advance(10.0)
    slow = len(queue.begun)
    assert 100 <= slow <= 103
    throttles.reload({NAME: Rate(100)})
    clock.advance(10.0)
    fast = len(queue.begun)
    assert 995 <= fast - slow <= 1030
    throttles.reload({})
    clock.advance(0.01)
    assert len(queue.begun) == 5000


def test_one_timer_serves_whatever_waits() -> None:
    throttles, clock = make(Rate(1000))
    timers = 0
    call_later = clock.call_later

    def counted(delay: float, callback):  # type: ignore[no-untyped-def]  # as the clock's own
        nonlocal timers
        timers += 1
        return call_later(delay, callback)

    clock.call_later = counted  # type: ignore[method-assign]
    queues = [Queue(Allowance(NAME, throttles), clock) for _ in range(5)]
    for queue in queues:
        queue.offer(2000)
    clock.advance(9.0)
    assert sum(len(queue.begun) for queue in queues) >= 9000
    assert timers <= 100, "ten a second, for a thousand deliveries a second"
