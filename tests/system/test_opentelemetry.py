"""Traces: the real process with two workers, and a collector that reads OTLP."""

from __future__ import annotations

import smtplib
import subprocess
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from mcmt.control.client import ControlClient
from mcmt.control.protocol import EngineStatus, Status
from tests.support.engine_process import engine, mcmt_message
from tests.support.http_api import KEY, MESSAGE, TOKENS
from tests.support.otlp_receiver import Got, otlp_receiver
from tests.support.simulator_process import simulator

DOMAIN = "apn.example.com"
SPAN = "00f067aa0ba902b7"
PAYLOAD = b'{"aps":{"alert":"You have mail"}}'


def traceparent(number: int, *, sampled: bool = True) -> str:
    return f"00-{number:032x}-{SPAN}-0{int(sampled)}"


def by_trace(spans: list[Got]) -> dict[str, dict[str, Got]]:
    found: dict[str, dict[str, Got]] = defaultdict(dict)
    for span in spans:
        found[span.trace_id][span.name] = span
    return found


def check(trace: dict[str, Got], parent: str, channel: str) -> None:
    """Reception, delivery, attempt: one under the other, one before the other."""
    receive, deliver, attempt = trace["receive"], trace[f"deliver {channel}"], trace[f"attempt {channel}"]
    assert (receive.parent_id, deliver.parent_id, attempt.parent_id) == (parent, receive.span_id, deliver.span_id)
    assert abs(receive.start - deliver.start) < 0.001
    assert deliver.start <= attempt.start + 0.001
    assert attempt.end == deliver.end


def test_every_message_is_a_trace_across_workers_and_doors(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway") as apns, otlp_receiver() as collector:
        domains: dict[str, Any] = {
            DOMAIN: apns.stanza,
            "discard.example.com": {"delivery_method": "discard", "routes": ["discard://sink"]},
        }
        stanza = {"endpoint": collector.url, "sample_ratio": 1.0, "batch_wait": "100ms"}
        http = {"listen": {"127.0.0.1:0": {}}, "tokens": {"shop": TOKENS["shop"]}}
        with engine(tmp_path, domains, workers=2, opentelemetry=stanza, http_listener=http) as process:
            # A connection each, so that both workers have some.
            batches = []
            for number in range(1, 9):
                field = f"traceparent: {traceparent(number)}\r\n".encode() if number % 2 else b""
                with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=30) as client:
                    client.ehlo()
                    client.mail("app@example.com")
                    client.rcpt(f"user@{DOMAIN}")
                    code, text = client.data(field + mcmt_message(PAYLOAD, token=f"{number:064x}"))
                    assert code == 250
                    batches.append(text.split()[1].decode())
            for number, sampled in ((50, True), (51, False)):
                request = urllib.request.Request(
                    f"http://127.0.0.1:{process.doors['http_listener']}/v1/messages",
                    msgspec.json.encode(MESSAGE),
                    {
                        "Authorization": f"Bearer {KEY}",
                        "Content-Type": "application/json",
                        "traceparent": traceparent(number, sampled=sampled),
                    },
                )
                with urllib.request.urlopen(request, timeout=30) as answer:
                    assert answer.status == 202
            collector.wait(lambda: len({span[2:4] for span in collector.spans}) >= 27)
            process.wait(lambda: len([line for line in process.mainlog if line[4] == "D"]) == 10)

            traces = by_trace(collector.spans)
            for number, batch in enumerate(batches, 1):
                if number % 2:
                    check(traces[f"{number:032x}"], SPAN, "apn")
                    assert traces[f"{number:032x}"]["receive"].attributes["messaging.message.id"] == batch
                else:
                    check(traces[f"{batch}00000000"], "", "apn")
            check(traces[f"{50:032x}"], SPAN, "discard")
            assert f"{51:032x}" not in traces, "its sender does not record it"
            assert len(traces) == 9
            assert {span.attributes["mcmt.shard"] for span in collector.spans} == {"0", "1"}
            tried = next(span for span in collector.spans if span.name == "attempt apn")
            assert (
                tried.attributes["mcmt.remote_id"]
                .lower()
                .replace("-", "")
                .startswith(tried.attributes["messaging.message.id"].partition("-")[0])
            )
            for number in range(1, 9):
                assert f"{number:064x}".encode() not in b"".join(collector.bodies)
            assert b"You have mail" not in b"".join(collector.bodies)
            assert b"app@example.com" not in b"".join(collector.bodies)

            with ControlClient(process.folder / "spool" / "control.sock") as control:
                status = msgspec.json.decode(next(iter(control.ask_raw(Status()))), type=EngineStatus).telemetry
            assert status is not None
            assert (status.state, status.dropped, status.lost) == ("up", 0, 0)
            shown = subprocess.run(process.command("status"), capture_output=True, text=True, timeout=60, check=True)
            assert f"opentelemetry (127.0.0.1:{collector.port}): up, " in shown.stdout

            # With a reload nothing is sampled any more, and with another everything is.
            for ratio in (0.0, 1.0):
                process.config.write_text(
                    process.config.read_text().replace(f"sample_ratio: {1.0 - ratio}", f"sample_ratio: {ratio}")
                )
                subprocess.run(process.command("reload"), capture_output=True, timeout=60, check=True)
                if not ratio:
                    process.send(b"Subject: not told\r\n\r\nhello\r\n", "user@discard.example.com")
                    process.wait(lambda: len([line for line in process.mainlog if line[4] == "D"]) == 11)

            # What the collector has not been told when the engine stops, it is told then.
            process.send(b"Subject: last\r\n\r\nhello\r\n", "user@discard.example.com")
            process.wait(lambda: len([line for line in process.mainlog if line[4] == "D"]) == 12)
            assert process.stop() == 0
            assert len(by_trace(collector.spans)) == 10
