"""How many deliveries may be in memory."""

from __future__ import annotations

from mcmt.engine.residency import GUARANTEED, Residency


def test_all_queues_together_stay_within_the_limit_but_for_the_guaranteed_places() -> None:
    residency = Residency(1000)
    assert residency.enter(900, held=0) == 900
    assert residency.enter(500, held=0) == 100
    assert residency.enter(500, held=0) == GUARANTEED, "a quiet queue is not shut out by busy ones"
    assert residency.enter(500, held=GUARANTEED) == 0
    residency.leave(900)
    assert residency.enter(500, held=GUARANTEED) == 500
