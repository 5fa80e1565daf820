"""What ``mcmt top`` makes of two looks at an engine."""

from __future__ import annotations

from mcmt.cli.top import Rate, Shot, page, rates
from mcmt.control.protocol import DomainStatus, EngineStatus
from mcmt.eventlog.tally import Totals


def shot(at: float, *domains: DomainStatus, delivered: int = 0, **fields: object) -> Shot:
    engine = EngineStatus(
        version="1",
        pid=1,
        uptime=60.0,
        config="mcmt.yaml",
        addresses=(),
        sessions=2,
        spool="spool",
        queued=7,
        resident=3,
        quarantined=0,
        outbox_lag=0.0,
        workers=(1,),
        **fields,  # type: ignore[arg-type] # as given
    )
    totals = Totals(domain="a.example", accepted=delivered, delivered=delivered, transient=0, permanent=0)
    return Shot(at, engine, domains, {"a.example": totals})


def test_rates_are_by_the_time_between_two_looks() -> None:
    assert rates(shot(10.0, delivered=100), shot(12.0, delivered=150)) == {"a.example": Rate(25.0, 25.0, 0.0, 0.0)}


def test_an_engine_that_was_started_anew_has_no_rate_below_zero() -> None:
    assert rates(shot(10.0, delivered=100), shot(12.0, delivered=4))["a.example"] == Rate()


def test_the_worst_come_first() -> None:
    domains = [
        DomainStatus(domain="up.example", state="up", oldest=1.0),
        DomainStatus(domain="old.example", state="up", oldest=900.0),
        DomainStatus(domain="down.example", state="down", reason="refused", oldest=5.0),
        DomainStatus(domain="held.example", state="suspended by a route fault", reason="403 \x1b[2J"),
    ]
    lines = page(shot(0.0), shot(1.0, *domains))
    assert [line.split()[0] for line in lines if ".example" in line] == [
        "held.example",
        "down.example",
        "old.example",
        "up.example",
    ]
    assert "\x1b" not in "\n".join(lines), "what a gateway says moves no cursor"


def test_what_is_wrong_with_the_whole_engine_is_said() -> None:
    shown = "\n".join(page(shot(0.0), shot(1.0, missing=("worker 1 is being started",), stuck=True)))
    assert "worker 1 is being started" in shown
    assert "nothing is sent" in shown


def test_a_domain_that_has_nothing_queued_is_shown_while_it_has_a_rate() -> None:
    lines = page(shot(0.0), shot(1.0, delivered=5))
    assert [line.split()[:2] for line in lines if line.startswith("a.example")] == [["a.example", "idle"]]
