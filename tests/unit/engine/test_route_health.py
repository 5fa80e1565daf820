"""When a route may be connected to, and when it may be sent to."""

from __future__ import annotations

import pytest

from mcmt.engine.route_health import FIRST_DELAY, LONGEST_DELAY, RouteHealth
from tests.support.manual_clock import ManualClock


class Observed:
    """A route's health with its clock and the news that it told."""

    def __init__(self, longest: float = 900.0) -> None:
        self.clock = ManualClock()
        self.news: list[tuple[str, str]] = []
        self.health = RouteHealth(
            self.clock, lambda: 0.0, longest, lambda word, reason: self.news.append((word, reason))
        )


@pytest.fixture
def route() -> Observed:
    return Observed()


def test_failures_to_connect_back_off_and_are_told_once(route: Observed) -> None:
    delays = []
    for _ in range(9):
        route.health.failed("refused")
        delays.append(route.health.connect_delay())
        route.clock.advance(route.health.connect_delay())
    assert delays == [FIRST_DELAY * 2**n for n in range(6)] + [LONGEST_DELAY] * 3
    assert route.news == [("down", "refused")]


def test_an_answer_ends_the_back_off_and_is_told(route: Observed) -> None:
    route.health.failed("refused")
    route.health.answered()
    route.health.answered()
    assert route.health.connect_delay() == 0
    assert [word for word, _ in route.news] == ["down", "up"]


def test_one_refusal_is_free_two_in_a_row_hold_the_route(route: Observed) -> None:
    route.health.refused("GOAWAY")
    assert route.health.send_delay() == 0
    route.health.answered()
    route.health.refused("GOAWAY")
    assert route.health.send_delay() == 0, "an answer between them starts the count anew"
    route.health.refused("GOAWAY")
    assert route.health.send_delay() == FIRST_DELAY


def test_a_wait_that_the_gateway_asks_for_is_kept(route: Observed) -> None:
    route.health.refused("429 TooManyProviderTokenUpdates", 120.0)
    assert route.health.send_delay() == 120.0


def test_a_fault_suspends_until_a_probe_is_answered(route: Observed) -> None:
    route.health.faulted("403 BadCertificate")
    assert route.health.send_delay() == 900
    assert not route.health.probing
    route.health.answered()
    assert route.health.fault, "an answer to what was sent before the fault proves nothing"
    route.clock.advance(900)
    assert route.health.probing
    route.health.faulted("403 BadCertificate")
    assert not route.health.probing
    route.clock.advance(900)
    route.health.answered()
    assert not route.health.fault
    assert [word for word, _ in route.news] == ["suspended", "probe", "resumed"]
