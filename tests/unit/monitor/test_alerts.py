"""When an alert is due, and how often."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import msgspec
import pytest
import trustme

from mcmt.config.settings import ListenSettings, MonitorSettings, Settings, SpoolSettings
from mcmt.control.protocol import DomainStatus, EngineStatus
from mcmt.errors import ControlError
from mcmt.intake.sources import SourceStatus
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.monitor.alerts import CERTIFICATES, DAY, Alerts, View, Watch, away_of
from mcmt.webhooks.status import WebhookStatus
from tests.support.manual_clock import ManualClock

HOUR = 3600.0
QUARTER = 900.0
PATH = Path("cert.pem")


def watch() -> Watch:
    return Watch(MonitorSettings(alert_suspended=HOUR, alert_oldest=6 * HOUR))


def suspended(queued: int = 5, reason: str = "403") -> list[DomainStatus]:
    return [DomainStatus(domain="a.example", state="suspended by a route fault", reason=reason, queued=queued)]


def old(seconds: float) -> list[DomainStatus]:
    return [DomainStatus(domain="a.example", state="up", oldest=seconds, queued=3)]


def test_a_route_that_is_suspended_for_long_is_told_once_a_day() -> None:
    seen = watch()
    assert seen.domains(0.0, suspended()) == []
    assert seen.domains(HOUR - 1, suspended()) == []
    (alert,) = seen.domains(HOUR, suspended())
    assert alert == ("a.example", "suspended by a route fault for 60 min or more, and 5 deliveries wait: 403")
    assert seen.domains(HOUR + 60, suspended()) == []
    assert len(seen.domains(HOUR + DAY, suspended())) == 1


def test_one_that_was_resumed_meanwhile_begins_anew() -> None:
    seen = watch()
    seen.domains(0.0, suspended())
    assert len(seen.domains(HOUR, suspended())) == 1
    seen.domains(HOUR + 60, [])
    assert seen.domains(HOUR + 120, suspended()) == []
    assert len(seen.domains(2 * HOUR + 120, suspended())) == 1


def test_a_suspended_domain_without_mail_alerts_nobody() -> None:
    seen = watch()
    seen.domains(0.0, suspended(queued=0))
    assert seen.domains(9 * HOUR, suspended(queued=0)) == []


def test_mail_that_has_grown_old_is_told_once_a_day() -> None:
    seen = watch()
    assert seen.domains(0.0, old(6 * HOUR - 1)) == []
    ((domain, text),) = seen.domains(60.0, old(6 * HOUR))
    assert (domain, text) == ("a.example", "the oldest of 3 deliveries waits for 6 h; up")
    assert seen.domains(120.0, old(7 * HOUR)) == []
    assert len(seen.domains(60.0 + DAY, old(30 * HOUR))) == 1


def engine(**values: object) -> EngineStatus:
    nothing = {"queued": 0, "resident": 0, "quarantined": 0, "outbox_lag": 0.0, "uptime": 1.0, "sessions": 0, "pid": 1}
    words = {"version": "", "config": "", "spool": "", "addresses": ()}
    return msgspec.convert({**nothing, **words, **values}, EngineStatus)


TUBE = SourceStatus(kind="beanstalkd", address="queue:11300", name="news", domain="a.example", state="connected")
COMPONENT = Attachment(jid="push.example.com", place="chat:5347", connected=True)
HOOK = WebhookStatus(name="shop", host="x", state="up")


def test_what_is_out_of_reach_is_told_once_a_day_and_what_is_there_never() -> None:
    away = engine(
        sources=(
            msgspec.structs.replace(TUBE, state="waiting", reason="Connection refused"),
            msgspec.structs.replace(TUBE, name="mail", state="holding", reason="the disk is full"),
            msgspec.structs.replace(TUBE, name="good"),
        ),
        components=(msgspec.structs.replace(COMPONENT, connected=False, reason="not-authorized"),),
        webhooks=(msgspec.structs.replace(HOOK, state="down", reason="503", events=4),),
    )
    seen = watch()
    assert seen.away(0.0, away_of(away)) == []
    assert seen.away(QUARTER - 1, away_of(away)) == []
    assert seen.away(QUARTER, away_of(away)) == [
        ("a.example", "beanstalkd queue:11300, tube news: not connected for 15 min or more: Connection refused"),
        ("a.example", "beanstalkd queue:11300, tube mail: nothing is taken for 15 min or more: the disk is full"),
        ("", "the XMPP component push.example.com: not connected to chat:5347 for 15 min or more: not-authorized"),
        ("", "the webhook shop: down for 15 min or more, and 4 events wait: 503"),
    ]
    assert seen.away(QUARTER + 60, away_of(away)) == []
    assert len(seen.away(QUARTER + DAY, away_of(away))) == 4
    there = engine(sources=(TUBE,), components=(COMPONENT,), webhooks=(HOOK,))
    assert away_of(there) == {}


def test_what_was_there_meanwhile_begins_anew() -> None:
    away = away_of(engine(components=(msgspec.structs.replace(COMPONENT, connected=False),)))
    seen = watch()
    seen.away(0.0, away)
    seen.away(QUARTER - 60, {})
    assert seen.away(QUARTER, away) == []
    assert len(seen.away(2 * QUARTER, away)) == 1


def test_zero_is_never() -> None:
    seen = Watch(MonitorSettings(alert_suspended=0.0, alert_oldest=0.0, alert_disconnected=0.0))
    away = away_of(engine(webhooks=(msgspec.structs.replace(HOOK, state="off"),)))
    assert seen.away(0.0, away) == seen.away(99 * DAY, away) == []
    seen.domains(0.0, suspended())
    assert seen.domains(99 * DAY, suspended() + old(99 * DAY)) == []


def test_a_certificate_is_told_when_it_got_worse_and_daily_in_the_last_week() -> None:
    seen, told = watch(), list[tuple[int, str]]()
    for day in range(40):
        alerts = seen.certificates(day * DAY, {PATH: ("a.example", 35.5 - day)})
        told += [(day, alert.text.removeprefix("the certificate cert.pem ").partition(":")[0]) for alert in alerts]
    assert [day for day, _ in told] == [6, 13, 20, 27, 29, *range(30, 40)]
    assert told[0] == (6, "expires in 30 days")
    assert told[-6] == (34, "expires in 2 days")
    assert told[-5] == (35, "expires in a day")
    assert told[-4:] == [(day, "has expired") for day in range(36, 40)]


def test_a_new_certificate_ends_it() -> None:
    seen = watch()
    assert len(seen.certificates(0.0, {PATH: ("", 3.0)})) == 1
    assert seen.certificates(HOUR, {PATH: ("", 365.0)}) == []
    assert len(seen.certificates(2 * HOUR, {PATH: ("", 3.0)})) == 1


async def test_a_certificate_in_the_configuration_is_read_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "cert.pem", ManualClock()

    def issue(days: float) -> None:
        end = datetime.datetime.fromtimestamp(clock.time() + days * DAY, datetime.UTC)
        issued = trustme.CA().issue_cert("mx.example.com", not_after=end)
        path.write_bytes(issued.cert_chain_pems[0].bytes())

    await asyncio.to_thread(issue, 5.4)
    settings = Settings(
        file=tmp_path / "mcmt.yaml",
        hostname="mx.example.com",
        workers=1,
        spool=SpoolSettings(path=tmp_path),
        listen=(ListenSettings(host=None, port=25, tls_certificate=path), ListenSettings(host=None, port=26)),
        domains={},
        channel_loggers=(),
        mainlog=(),
        rejectlog=(),
        control_socket=tmp_path / "control.sock",
    )
    noted: list[tuple[str, str]] = []

    async def look() -> View | None:
        return None

    async def note(domain: str, text: str) -> None:
        noted.append((domain, text))
        raise ControlError("no worker is there")

    alerts = Alerts(settings, look, note, clock)
    await alerts.look()
    assert noted == [("", f"the certificate {path} expires in 5 days: have a new one made")]
    assert f"{path} expires in 5 days" in caplog.text
    assert "not in the main log: no worker is there" in caplog.text
    clock.advance(CERTIFICATES)
    await alerts.look()
    assert len(noted) == 1
