"""What ``mcmt top`` makes of two looks at an engine."""

from __future__ import annotations

import msgspec

from mcmt.cli.top import Rate, Shot, page, rates
from mcmt.control.protocol import DomainStatus, EngineStatus
from mcmt.eventlog.tally import Totals
from mcmt.intake.sources import SourceStatus
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.webhooks.status import WebhookStatus


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


TUBE = SourceStatus(kind="beanstalkd", address="queue:11300", name="news", domain="a.example", state="waiting")
JID = Attachment(jid="push.example.com", place="chat:5347", connected=False, reason="refused")
HOOK = WebhookStatus(name="shop", host="x", state="down", reason="503", events=4)


def test_what_is_out_of_reach_is_said_and_what_is_not_is_not() -> None:
    shown = "\n".join(page(shot(0.0), shot(1.0, sources=(TUBE,), components=(JID,), webhooks=(HOOK,))))
    assert "beanstalkd queue:11300, tube news: waiting" in shown
    assert "XMPP component push.example.com: not connected; refused" in shown
    assert "webhook shop: down, 4 events wait; 503" in shown
    there = shot(
        1.0,
        sources=(msgspec.structs.replace(TUBE, state="connected"),),
        components=(msgspec.structs.replace(JID, connected=True),),
        webhooks=(msgspec.structs.replace(HOOK, state="up"),),
    )
    assert len(page(shot(0.0), there)) == len(page(shot(0.0), shot(1.0)))


def test_eighty_columns_are_enough_for_every_column_of_the_table() -> None:
    busy = DomainStatus(
        domain="notifications.of.a.shop.example",
        state="throttled",
        connections=250,
        in_flight=25000,
        queued=1234567,
        oldest=86400.0 * 3 + 3600,
    )
    after = shot(1.0, busy, DomainStatus(domain="a.example", state="suspended by hand"), delivered=123456)
    lines = page(shot(0.0), after, 80)
    assert max(map(len, lines)) <= 80, lines
    place = lines.index("notifications.of.a.shop.example")
    assert lines[place + 1].split()[:4] == ["throttled", "250", "25000", "1234567"]
    (mine,) = [line for line in lines if line.startswith("a.example")]
    assert mine.split()[-4:] == ["123456", "123456", "0.0", "0.0"]
    heads = next(line for line in lines if line.startswith("DOMAIN"))
    assert heads.split() == ["DOMAIN", "STATE", "CONN", "FLIGHT", "QUEUED", "OLDEST", "IN", "OUT", "T", "P"]


def test_a_domain_that_has_nothing_queued_is_shown_while_it_has_a_rate() -> None:
    lines = page(shot(0.0), shot(1.0, delivered=5))
    assert [line.split()[:2] for line in lines if line.startswith("a.example")] == [["a.example", "idle"]]
