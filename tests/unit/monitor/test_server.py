"""Health and readiness, as each of what they tell of goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcmt.config.settings import ListenSettings, MonitorSettings, PyapnsSettings, Settings, SpoolSettings
from mcmt.control.protocol import DomainStatus
from mcmt.control.station import Seen, Station
from mcmt.errors import SpoolError
from mcmt.eventlog.tally import Tally
from mcmt.intake.sources import SourceStatus
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.message.event import Event, Kind, OutboxRow
from mcmt.monitor import server as server_module
from mcmt.monitor.server import MonitorServer
from mcmt.telemetry.status import TelemetryStatus
from mcmt.webhooks.status import WebhookStatus
from tests.support.manual_clock import ManualClock


class Shard:
    """A station that says what it is told to say."""

    def __init__(self) -> None:
        self.seen = Seen(resident=2, quarantined=0, outbox_oldest=None, domains=())
        self.fault: Exception | None = None
        self.looks = 0
        self.hangs = False

    async def look(self) -> Seen:
        self.looks += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault:
            raise self.fault
        return self.seen


class Nothing:
    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None: ...

    def save(self) -> None: ...


class Front:
    """An engine with one shard."""

    def __init__(self) -> None:
        self.addresses: Sequence[tuple[str, int]] = [("127.0.0.1", 2525)]
        self.listening: Sequence[tuple[str, str, int]] = [("SMTP", "127.0.0.1", 2525)]
        self.sessions = 4
        self.shard = Shard()
        self.tokens: object = None
        self.tally = Tally(Nothing(), ["a.example"], 2)
        self.workers = (4711, 4712)
        self.missing: Sequence[str] = ()
        self.webhooks: Sequence[WebhookStatus] = ()
        self.telemetry: TelemetryStatus | None = None
        self.restarts = 3
        self.registrations: Any = None
        self.attachments: Sequence[Attachment] = ()

    @property
    def stations(self) -> Sequence[Station]:
        return [self.shard]  # type: ignore[list-item] # no more is asked of it here


class Registered:
    """A table of registrations that counts them."""

    fault: Exception | None = None

    def counts(self) -> Mapping[str, int]:
        if self.fault:
            raise self.fault
        return {"push.example.com": 12, "gone.example.com": 3}


class Log:
    failing: Sequence[str] = ()


class Watched:
    def __init__(self, folder: Path, min_free: int = 0) -> None:
        self.front, self.log, self.clock = Front(), Log(), ManualClock()
        settings = Settings(
            file=folder / "mcmt.yaml",
            hostname="mx.example.com",
            workers=2,
            spool=SpoolSettings(path=folder, min_free=min_free),
            listen=(ListenSettings(host=None, port=25),),
            pyapns=(PyapnsSettings(host=None, port=7077),),
            domains={},
            channel_loggers=(),
            mainlog=(),
            rejectlog=(),
            control_socket=folder / "control.sock",
            monitor=MonitorSettings(listen=("127.0.0.1", 0)),
        )
        self.server = MonitorServer(settings, self.front, self.log, self.clock)  # type: ignore[arg-type] # no tokens

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body; every look is a new one."""
        self.clock.advance(server_module.FRESH)
        return await self.get_again(path)

    async def get_again(self, path: str) -> tuple[int, str]:
        reader, writer = await asyncio.open_connection(*self.server.addresses[0])
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return int(head.split()[1]), body


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    running = Watched(tmp_path)
    await running.server.start()
    yield running
    await running.server.close()


async def test_all_is_well(watched: Watched) -> None:
    assert await watched.get("/healthz") == (200, "healthy\n")
    assert await watched.get("/readyz") == (200, "ready\n")


async def test_a_log_that_cannot_be_written_is_not_healthy(watched: Watched) -> None:
    watched.log.failing = ["/logs/apnlog.ec"]
    status, body = await watched.get("/healthz")
    assert (status, "/logs/apnlog.ec cannot be written" in body) == (503, True)


async def test_a_spool_that_refuses_is_not_healthy(watched: Watched) -> None:
    watched.front.shard.fault = SpoolError("the disk is damaged")
    assert await watched.get("/healthz") == (503, "the engine does not answer: the disk is damaged\n")
    watched.front.shard.fault = None
    watched.front.shard.seen = Seen(resident=2, quarantined=0, outbox_oldest=None, domains=(), stuck=True)
    status, body = await watched.get("/healthz")
    assert (status, "nothing is sent" in body) == (503, True)


async def test_an_engine_that_does_not_answer_is_not_healthy(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PATIENCE", 0.02)
    watched.front.shard.hangs = True
    assert (await watched.get("/healthz"))[0] == 503
    status, body = await watched.get("/metrics")
    assert status == 200, "what was counted is told all the same"
    assert "mcmt_status_complete 0" in body
    assert 'mcmt_delivered_total{domain="a.example"} 0' in body
    assert "mcmt_resident_deliveries" not in body


async def test_without_a_listener_or_with_a_worker_missing_it_is_not_ready(watched: Watched) -> None:
    watched.front.missing = ["worker 1 is being started"]
    assert await watched.get("/readyz") == (503, "worker 1 is being started\n")
    assert "mcmt_workers_up 1\n" in (await watched.get("/metrics"))[1]
    watched.front.missing, watched.front.listening = (), ()
    assert await watched.get("/readyz") == (503, "no address is listened on\n")
    watched.front.addresses, watched.front.listening = (), [("HTTP", "127.0.0.1", 8025)]
    assert await watched.get("/readyz") == (200, "ready\n")


async def test_while_the_engine_stops_clients_go_elsewhere_and_nobody_restarts_it(watched: Watched) -> None:
    await watched.get("/metrics")
    looks = watched.front.shard.looks
    await watched.server.drain()
    watched.front.shard.fault = SpoolError("it is closed")
    assert await watched.get("/readyz") == (503, "stopping\n")
    assert await watched.get("/healthz") == (200, "stopping\n")
    status, body = await watched.get("/metrics")
    assert status == 200
    assert "mcmt_status_complete 0\n" in body
    assert watched.front.shard.looks == looks


async def test_a_spool_that_takes_no_messages_is_healthy_and_not_ready(tmp_path: Path) -> None:
    full = Watched(tmp_path, min_free=1 << 62)
    await full.server.start()
    assert (await full.get("/healthz"))[0] == 200
    status, body = await full.get("/readyz")
    assert (status, "takes no messages" in body) == (503, True)
    await full.server.close()


async def test_a_spool_folder_that_is_gone_is_neither(watched: Watched, tmp_path: Path) -> None:
    elsewhere = tmp_path.with_name("elsewhere")
    await asyncio.to_thread(tmp_path.rename, elsewhere)
    try:
        assert (await watched.get("/healthz"))[0] == 503
        assert (await watched.get("/readyz"))[0] == 503
        assert "mcmt_spool_free_bytes" not in (await watched.get("/metrics"))[1]
    finally:
        await asyncio.to_thread(elsewhere.rename, tmp_path)


async def test_many_who_ask_cost_the_engine_one_look(watched: Watched) -> None:
    await watched.get("/metrics")
    before = watched.front.shard.looks
    await asyncio.gather(*(watched.get_again("/metrics") for _ in range(5)), watched.get_again("/healthz"))
    assert watched.front.shard.looks == before


async def test_domains_past_the_limit_are_one_also_where_they_are_gauges(watched: Watched) -> None:
    def domain(name: str, **values: object) -> DomainStatus:
        return DomainStatus(domain=name, **values)  # type: ignore[arg-type] # as given

    watched.front.shard.seen = Seen(
        resident=2,
        quarantined=0,
        outbox_oldest=None,
        domains=(
            domain("a.example", queued=1, state="down", oldest=5.0),
            domain("b.example", queued=2, state="up", oldest=None),
            domain("c.example", queued=4, state="suspended by hand", oldest=7.0),
            domain("d.example", queued=8, state="no stanza", oldest=70.0),
        ),
    )
    body = (await watched.get("/metrics"))[1].splitlines()
    assert [line for line in body if line.startswith("mcmt_queued_deliveries{")] == [
        'mcmt_queued_deliveries{domain="a.example"} 1',
        'mcmt_queued_deliveries{domain="b.example"} 2',
        'mcmt_queued_deliveries{domain="other"} 12',
    ]
    assert 'mcmt_oldest_message_age_seconds{domain="other"} 70.0' in body
    assert 'mcmt_route_state{domain="a.example",state="down"} 1' in body
    assert 'mcmt_route_state{domain="other",state="suspended"} 1' in body
    assert 'mcmt_route_state{domain="other",state="other"} 1' in body


async def test_without_an_address_nobody_listens(tmp_path: Path) -> None:
    quiet = Watched(tmp_path)
    settings = Settings(
        file=tmp_path / "mcmt.yaml",
        hostname="mx.example.com",
        workers=1,
        spool=SpoolSettings(path=tmp_path),
        listen=(),
        domains={},
        channel_loggers=(),
        mainlog=(),
        rejectlog=(),
        control_socket=tmp_path / "control.sock",
    )
    server = MonitorServer(settings, quiet.front, quiet.log, quiet.clock)  # type: ignore[arg-type] # no tokens
    await server.start()
    assert server.addresses == ()
    await server.close()


async def test_the_export_of_spans_has_its_metrics_where_there_is_one(watched: Watched) -> None:
    assert "opentelemetry" not in (await watched.get("/metrics"))[1]
    watched.front.telemetry = TelemetryStatus(host="x", state="down", waiting=3, sent=7, dropped=2, lost=5)
    families = {family.name: family for family in text_string_to_metric_families((await watched.get("/metrics"))[1])}
    found = {name: one.samples[0].value for name, one in families.items() if name.startswith("mcmt_opentelemetry_")}
    assert found == {
        "mcmt_opentelemetry_up": 0,
        "mcmt_opentelemetry_queued_spans": 3,
        "mcmt_opentelemetry_sent_spans": 7,
        "mcmt_opentelemetry_dropped_spans": 2,
        "mcmt_opentelemetry_lost_spans": 5,
    }


async def test_each_webhook_is_a_label_of_its_metrics(watched: Watched) -> None:
    assert "mcmt_webhook" not in (await watched.get("/metrics"))[1]
    watched.front.webhooks = (
        WebhookStatus(name="shop", host="x", state="up", events=3, bytes=900, oldest=1.5, sent=7),
        WebhookStatus(name="erp", host="y", state="off", dropped=2, failures=5),
    )
    families = {family.name: family for family in text_string_to_metric_families((await watched.get("/metrics"))[1])}
    found = {
        name.removeprefix("mcmt_webhook_"): {sample.labels["webhook"]: sample.value for sample in family.samples}
        for name, family in families.items()
        if name.startswith("mcmt_webhook_")
    }
    assert found == {
        "up": {"shop": 1, "erp": 0},
        "queued_events": {"shop": 3, "erp": 0},
        "queued_bytes": {"shop": 900, "erp": 0},
        "oldest_event_age_seconds": {"shop": 1.5, "erp": 0},
        "sent_events": {"shop": 7, "erp": 0},
        "dropped_events": {"shop": 0, "erp": 2},
        "failures": {"shop": 0, "erp": 5},
    }


def families_of(body: str) -> dict[str, dict[tuple[str, ...], float]]:
    """What Prometheus' parser reads: by name, the values by their labels' values."""
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(body)
    }


async def test_each_tube_and_each_component_is_told_of(watched: Watched) -> None:
    families = families_of((await watched.get("/metrics"))[1])
    assert not [name for name in families if "beanstalkd" in name or "xmpp" in name]
    tube = SourceStatus(kind="beanstalkd", address="queue:11300", name="news", domain="a.example", state="connected")
    tubes = (
        msgspec.structs.replace(tube, reserved=2, taken=9, repeated=1, buried=3),
        msgspec.structs.replace(tube, name="held", state="holding"),
        msgspec.structs.replace(tube, name="away", state="waiting"),
    )
    watched.front.shard.seen = msgspec.structs.replace(watched.front.shard.seen, sources=tubes)
    watched.front.attachments = (
        Attachment(jid="push.example.com", place="x:5347", connected=True),
        Attachment(jid="new.example.com", place="x:5347", connected=False, reason="it is being connected"),
    )
    watched.front.registrations = Registered()
    families = families_of((await watched.get("/metrics"))[1])
    found = {name.removeprefix("mcmt_"): values for name, values in families.items()}
    assert found["beanstalkd_connected"] == {
        ("queue:11300", "news"): 1,
        ("queue:11300", "held"): 1,
        ("queue:11300", "away"): 0,
    }
    told = [
        found[f"beanstalkd_{name}_jobs"]["queue:11300", "news"] for name in ("reserved", "taken", "repeated", "buried")
    ]
    assert told == [2, 9, 1, 3]
    assert found["xmpp_connected"] == {("push.example.com",): 1, ("new.example.com",): 0}
    assert found["xmpp_registrations"] == {("push.example.com",): 12, ("new.example.com",): 0}
    watched.front.registrations.fault = SpoolError("the disk is damaged")
    families = families_of((await watched.get("/metrics"))[1])
    assert families["mcmt_xmpp_connected"]["push.example.com",] == 1
    assert families["mcmt_xmpp_registrations"] == {}


async def test_what_comes_by_each_door_is_told_and_of_those_that_there_are_from_the_start(watched: Watched) -> None:
    families = families_of((await watched.get("/metrics"))[1])
    assert families["mcmt_door_receptions"] == families["mcmt_door_rejections"] == {("esmtp",): 0, ("pyapns",): 0}
    events = (
        Event(kind=Kind.RECEPTION, time=1.0, domain="a.example", protocol="http"),
        Event(kind=Kind.RECEPTION, time=1.0, domain="a.example", protocol="pyapns"),
        Event(kind=Kind.REJECTION, time=1.0, code="550", protocol="pyapns"),
    )
    watched.front.tally.take("0", [OutboxRow(1, events)])
    families = families_of((await watched.get("/metrics"))[1])
    assert families["mcmt_door_receptions"] == {("esmtp",): 0, ("http",): 1, ("pyapns",): 1}
    assert families["mcmt_door_rejections"] == {("esmtp",): 0, ("pyapns",): 1}


async def test_what_is_queued_is_told_by_priority(watched: Watched) -> None:
    seen = DomainStatus(domain="a.example", queued=9, high=2, bulk=4)
    watched.front.shard.seen = msgspec.structs.replace(watched.front.shard.seen, domains=(seen,))
    families = families_of((await watched.get("/metrics"))[1])
    assert families["mcmt_queued_priority_deliveries"] == {
        ("a.example", "high"): 2,
        ("a.example", "normal"): 3,
        ("a.example", "bulk"): 4,
    }
