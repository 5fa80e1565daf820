"""Spans as the event log has them made: events go in by the row, and out to a collector on a real socket."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import mcmt
from mcmt.config.telemetry_settings import TelemetrySettings
from mcmt.message.event import Event, Kind, OutboxRow
from mcmt.telemetry import telemetry as module
from mcmt.telemetry.telemetry import Telemetry
from tests.support.otlp_receiver import otlp_receiver
from tests.unit.config.support import DOMAIN, SPOOL

ROOT = Path(__file__).parents[3]
BATCH = "019ab12c4d5e7f3a8b1c{:04x}"


class Behind:
    """What stands behind it among the tables of the event log."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        self.taken += [row.sequence for row in rows]

    def save(self) -> None:
        pass


def ended(number: int) -> Event:
    batch, text = BATCH.format(number), "5.4.7 [internal] over"
    about = {"channel": "apn", "domain": "apn.example.com", "code": "554", "text": text}
    return Event(kind=Kind.PERMANENT, time=1e9, id=f"{batch}-1", batch_id=batch, **about)  # type: ignore[arg-type]


class Bench:
    def __init__(self, settings: TelemetrySettings | None) -> None:
        self.told: list[str] = []
        self.behind = Behind()
        self.telemetry = Telemetry(self.behind, settings, "mx.example.com", self.told.append)

    def log(self, first: int, count: int, shard: str = "0") -> None:
        """Rows of one failure each, which is one span: it ended by our own doing."""
        self.telemetry.take(shard, [OutboxRow(number, (ended(number),)) for number in range(first, first + count)])

    @property
    def status(self) -> Any:
        return self.telemetry.status()


@asynccontextmanager
async def bench(endpoint: str, **options: Any) -> AsyncIterator[Bench]:
    it = Bench(TelemetrySettings(endpoint=endpoint, **{"sample_ratio": 1.0, "batch_wait": 0.02, **options}))
    try:
        yield it
    finally:
        await it.telemetry.stop()


async def until(condition: Callable[[], object], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


def nobody(query: str = "") -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}/v1/traces{query}"


async def test_spans_arrive_with_who_they_are_of() -> None:
    with otlp_receiver() as collector:
        fields = {"authorization": "Bearer secret"}
        async with bench(collector.url, headers=fields, resource={"service.name": "push", "team": "a"}) as it:
            it.log(1, 3)
            await until(lambda: it.status.sent == 3)
        assert [one.trace_id for one in collector.spans] == [f"{BATCH.format(n)}00000000" for n in (1, 2, 3)]
        (one, *_) = collector.spans
        assert (one.name, one.end, one.error) == ("deliver apn", 1e9, "554 5.4.7 [internal] over")
        assert {
            "service.name": "push",
            "service.version": mcmt.__version__,
            "team": "a",
        }.items() <= one.resource.items()
        assert (one.resource["host.name"], one.resource["service.instance.id"]) == ("mx.example.com", "mx.example.com")
        sent = {name.lower(): value for name, value in collector.fields[0].items()}
        assert (sent["authorization"], sent["content-encoding"]) == ("Bearer secret", "gzip")
        assert it.behind.taken == [1, 2, 3]


async def test_rows_that_are_read_again_are_told_once_and_each_shard_by_itself() -> None:
    with otlp_receiver() as collector:
        async with bench(collector.url) as it:
            it.log(1, 3)
            it.log(2, 4)
            it.log(1, 1, shard="1")
            await until(lambda: it.status.sent == 6)
        assert sorted((one.attributes["mcmt.shard"], one.trace_id[20:24]) for one in collector.spans) == [
            *[("0", f"{number:04x}") for number in range(1, 6)],
            ("1", "0001"),
        ]
        assert it.behind.taken == [1, 2, 3, 2, 3, 4, 5, 1]


async def test_a_collector_that_is_down_costs_nothing_but_spans_which_are_counted() -> None:
    async with bench(nobody("?key=hidden"), timeout=1.9, max_queued_spans=8, batch_size=8) as it:
        begun = time.thread_time()
        it.log(1, 2000)
        assert it.behind.taken[-1] == 2000
        assert time.thread_time() - begun < 1.0
        assert it.status.dropped >= 1900
        await until(lambda: it.status.waiting == 0 and it.status.lost + it.status.dropped == 2000)
        assert (it.status.state, it.status.sent) == ("down", 0)
        assert "Connection refused" in it.status.reason
        assert "hidden" not in it.status.reason
        assert len([one for one in it.told if "takes no spans, and they are dropped" in one]) == 1
        # Once for each time that the queue was full and then half empty.
        assert 1 <= len([one for one in it.told if "max_queued_spans" in one]) < 10
    with otlp_receiver() as collector:
        assert collector.spans == []


async def test_it_is_told_once_that_a_collector_refuses_and_once_that_it_takes_spans_again() -> None:
    def answer(number: int) -> int:
        return 400 if number < 3 else 200

    with otlp_receiver(answer) as collector:
        async with bench(collector.url) as it:
            for number in range(1, 5):
                it.log(number, 1)
                await until(lambda number=number: it.status.sent + it.status.lost == number)  # type: ignore[misc]
            assert (it.status.sent, it.status.lost, it.status.state, it.status.reason) == (1, 3, "up", "")
            refused, again = it.told
            assert "400" in refused
            assert again.endswith("takes spans again")


async def test_what_waits_is_sent_when_the_engine_stops() -> None:
    with otlp_receiver() as collector:
        async with bench(collector.url, batch_wait=3600.0) as it:
            it.log(1, 10)
        assert len(collector.spans) == 10
        assert it.told == []
        it.log(11, 1)
        assert it.behind.taken[-1] == 11
        assert it.status is None


@pytest.mark.parametrize("says", ["nothing", "503"])
async def test_a_collector_that_does_not_answer_does_not_keep_the_engine(
    says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOPPING", 0.3)
    with otlp_receiver(lambda _: 0 if says == "nothing" else 503) as collector:
        async with bench(collector.url, timeout=60.0) as it:
            it.log(1, 10)
            await until(lambda: collector.requests)
            async with asyncio.timeout(20):
                await it.telemetry.stop()
        assert it.told == ["opentelemetry: 10 spans were not sent before the end"]


async def test_a_reload_changes_where_they_go_and_what_waits_goes_where_it_was_to_go() -> None:
    with otlp_receiver() as first, otlp_receiver() as second:
        async with bench(first.url, batch_wait=3600.0) as it:
            it.log(1, 3)
            wanted = TelemetrySettings(endpoint=second.url, sample_ratio=1.0, batch_wait=0.02)
            await it.telemetry.prepare(wanted)
            await it.telemetry.reload(wanted)
            assert len(first.spans) == 3
            # A row that was told by the one before is not told again.
            it.log(3, 2)
            await until(lambda: it.status.sent == 1)
            await it.telemetry.reload(wanted)
            assert it.status.sent == 1, "it is the same one"
            await it.telemetry.reload(None)
            assert it.status is None
            it.log(5, 1)
        assert [len(one.spans) for one in (first, second)] == [3, 1]


async def test_an_answer_that_sends_elsewhere_is_a_failure_and_is_not_followed() -> None:
    with otlp_receiver() as elsewhere, otlp_receiver(lambda _: 302, location=elsewhere.url) as collector:
        async with bench(collector.url) as it:
            it.log(1, 1)
            await until(lambda: it.status.lost == 1)
            assert "302" in it.status.reason
        assert elsewhere.requests == 0


async def test_an_event_that_cannot_be_told_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr(module, "spans_of", broken)
    async with bench(nobody()) as it:
        it.log(1, 2)
        it.log(3, 1)
        assert it.behind.taken == [1, 2, 3]
        assert it.told == ["opentelemetry: [internal] an event cannot be told: ValueError: boom"]


async def test_the_exporters_own_log_does_not_reach_stderr(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(nobody(), timeout=0.05) as it:
        it.log(1, 1)
        await until(lambda: it.status.lost == 1)
    assert [one.name for one in caplog.records if one.name.startswith("opentelemetry")] == []
    assert logging.getLogger("opentelemetry.exporter").propagate, "as it was"


def test_without_the_stanza_nothing_of_the_sdk_is_imported() -> None:
    code = """
import sys
from mcmt.app.single import App
from mcmt.telemetry.telemetry import Telemetry
assert Telemetry(None, None, "x", print).status() is None
assert not [name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "requests", "google")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


@pytest.mark.parametrize("command", ["check", "serve"])
def test_with_the_stanza_and_without_the_extra_it_is_said_what_to_install(command: str, tmp_path: Path) -> None:
    """In a process of its own, where OpenTelemetry cannot be imported."""
    stanza = "opentelemetry: {endpoint: http://127.0.0.1:4318/v1/traces}\n"
    config = tmp_path / "mcmt.yaml"
    config.write_text(f'{SPOOL}esmtp_listener: {{listen: {{"127.0.0.1:0": {{}}}}}}\n{DOMAIN}{stanza}')
    code = "import sys; sys.modules['opentelemetry'] = None; from mcmt.cli import main; main()"
    line = [sys.executable, "-c", code, command, "--config", str(config)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode in (1, 2)
    assert "opentelemetry needs OpenTelemetry's SDK and its OTLP exporter: pip install 'mcmt[otel]'" in done.stderr
    assert "Traceback" not in done.stderr
