"""What a scraper sees of a real engine: everything counted once, in one process and in several."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import parser

from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.simulator_process import Simulator, simulator
from tests.support.webhook_receiver import SECRET

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"
MESSAGE = mcmt_message(b'{"aps":{}}')
GONE = mcmt_message(b'{"aps":{}}', token="dead410000" + "0" * 54)
LATER = mcmt_message(b'{"aps":{}}', token="dead500001" + "0" * 54)
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"

Samples = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(port: int) -> Samples:
    """By name and label values."""
    found: Samples = {}
    for line in get(port, "/metrics")[1].splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            assert match, line
            found[(match[1], *re.findall(r'"([^"]*)"', match[2] or ""))] = float(match[3])
    return found


def wait_for(process: EngineProcess, port: int, *key: str, value: float) -> Samples:
    seen: Samples = {}

    def reached() -> bool:
        seen.update(samples(port))
        return seen.get(key) == value

    process.wait(reached)
    return seen


def stanzas(gateway: Simulator, port: int, **stanza: Any) -> dict[str, Any]:
    return {"domains": {DOMAIN: {**gateway.stanza, **stanza}}, "monitor": {"listen": f"127.0.0.1:{port}"}}


def test_every_end_is_counted_by_domain_and_class(tmp_path: Path, gateway: Simulator, port: int) -> None:
    with engine(tmp_path, **stanzas(gateway, port, retry_interval="1s")) as process:
        for message in (MESSAGE, MESSAGE, GONE, LATER):
            process.send(message, USER)
        with smtplib.SMTP("127.0.0.1", process.smtp_port) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("app@example.com", ["user@nowhere.example.com"], "x")
        process.wait_for("D", 3)
        process.wait_for("P")
        process.wait(lambda: "J" in {fields[4] for fields in process.mainlog})
        seen = wait_for(process, port, "mcmt_delivered_total", DOMAIN, value=3)
        assert seen["mcmt_receptions_total", DOMAIN] == seen["mcmt_deliveries_accepted_total", DOMAIN] == 4
        assert seen["mcmt_transient_failures_total", DOMAIN, "5xx"] == 1
        assert seen["mcmt_permanent_failures_total", DOMAIN, "4xx"] == 1
        assert seen["mcmt_permanent_failures_total", DOMAIN, "5xx"] == 0
        assert seen["mcmt_tokens_gone_total", DOMAIN] == 1
        assert seen["mcmt_rejections_total", "550"] == 1
        assert seen["mcmt_delay_seconds_count", DOMAIN] == 4
        assert seen["mcmt_wire_seconds_count", DOMAIN] == 5
        assert seen["mcmt_workers_up",] == seen["mcmt_workers",] == seen["mcmt_status_complete",] == 1
        assert get(port, "/healthz") == (200, "healthy\n")
        assert get(port, "/readyz") == (200, "ready\n")
        assert get(port, "/")[0] == 404


def test_what_is_queued_and_why_is_seen_while_the_route_is_suspended(
    tmp_path: Path, gateway: Simulator, port: int
) -> None:
    with engine(tmp_path, **stanzas(gateway, port)) as process:
        process.listing("domain", "suspend", DOMAIN, "--reason", "new certificate")
        process.send(MESSAGE, USER)
        seen = wait_for(process, port, "mcmt_queued_deliveries", DOMAIN, value=1)
        assert seen["mcmt_route_state", DOMAIN, "suspended"] == 1
        assert seen["mcmt_route_state", DOMAIN, "up"] == 0
        assert 0 <= seen["mcmt_oldest_message_age_seconds", DOMAIN] < 60
        process.listing("domain", "resume", DOMAIN)
        wait_for(process, port, "mcmt_delivered_total", DOMAIN, value=1)


def test_several_workers_are_one_page_and_a_death_is_counted_once(
    tmp_path: Path, gateway: Simulator, port: int
) -> None:
    with engine(tmp_path, workers=2, **stanzas(gateway, port)) as process:
        for _ in range(6):  # a session each: both workers get some
            process.send(MESSAGE, USER)
        wait_for(process, port, "mcmt_delivered_total", DOMAIN, value=6)
        os.kill(process.status()["workers"][0], signal.SIGKILL)
        seen = wait_for(process, port, "mcmt_worker_restarts_total", value=1)
        seen = wait_for(process, port, "mcmt_workers_up", value=2)
        process.wait(lambda: get(port, "/readyz")[0] == 200)
        process.send(MESSAGE, USER)
        seen = wait_for(process, port, "mcmt_delivered_total", DOMAIN, value=7)
        assert seen["mcmt_receptions_total", DOMAIN] == 7


@pytest.mark.parametrize("workers", [1, 2])
def test_while_it_stops_a_balancer_is_told_so_to_the_end(
    tmp_path: Path, gateway: Simulator, port: int, workers: int
) -> None:
    with engine(tmp_path, workers=workers, drain_timeout="60s", **stanzas(gateway, port)) as process:
        assert process.process is not None
        with socket.create_connection(("127.0.0.1", process.smtp_port), timeout=30) as client:
            lines = client.makefile("rb")
            lines.readline()
            for command in (b"HELO x", b"MAIL FROM:<app@example.com>", f"RCPT TO:<{USER}>".encode(), b"DATA"):
                client.sendall(command + b"\r\n")
                assert lines.readline()[:1] in (b"2", b"3")
            # What is being received is waited for.
            client.sendall(b"Subject: x\r\n")
            process.process.send_signal(signal.SIGTERM)
            process.wait(lambda: get(port, "/readyz") == (503, "stopping\n"))
            assert get(port, "/healthz") == (200, "stopping\n")
            status, page = get(port, "/metrics")
            assert status == 200
            assert "\nmcmt_status_complete 0\n" in page
            client.sendall(b".\r\n")
            assert lines.readline()[:1] in (b"2", b"5")
            while lines.readline():
                pass
        assert process.process.wait(30) == 0
        assert "Traceback" not in process.diagnostics.read_text()


def test_prometheus_reads_it_and_so_does_curl(tmp_path: Path, gateway: Simulator, port: int) -> None:
    with engine(tmp_path, **stanzas(gateway, port)) as process:
        process.send(MESSAGE, USER)
        process.wait_for("D")
        families = {family.name: family for family in parser.text_string_to_metric_families(get(port, "/metrics")[1])}
        assert all(family.documentation for family in families.values())
        assert {family.type for family in families.values()} == {"counter", "gauge", "histogram"}
        assert all(name.startswith("mcmt_") for name in families)
        if curl := shutil.which("curl"):
            command = [curl, "--silent", "--show-error", "--include", f"http://127.0.0.1:{port}/metrics"]
            told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
            assert told.startswith("HTTP/1.1 200 OK")
            assert "text/plain; version=0.0.4" in told


def test_every_metric_of_the_dashboard_is_told(tmp_path: Path, gateway: Simulator, port: int) -> None:
    board = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    expressions += [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    assert len(expressions) > 10
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen: what is out of reach is told of too
        away = f"127.0.0.1:{nobody.getsockname()[1]}"
        component = {"jid": "push.example.com", "secret": "s", "domain": DOMAIN, "servers": ["example.com"]}
        others = {
            "beanstalkd": {"connect": {away: {"tubes": {"news": DOMAIN}}}},
            "webhook": {"shop": {"url": f"http://{away}/", "secret": SECRET}},
            "xmpp_component": {away: component},
        }
        seen = everything(tmp_path, {**stanzas(gateway, port), **others}, port)
    assert seen["mcmt_beanstalkd_connected", away, "news"] == seen["mcmt_xmpp_connected", "push.example.com"] == 0
    names = {key[0] for key in seen}
    for expression in expressions:
        named = set(re.findall(r"\bmcmt_\w+", expression))
        assert named, expression
        assert named <= names, expression


def everything(folder: Path, given: dict[str, Any], port: int) -> Samples:
    """What an engine tells that has had all kinds of ends, and has something queued."""
    with engine(folder, **given) as process:
        process.send(MESSAGE, USER)
        process.send(GONE, USER)
        with smtplib.SMTP("127.0.0.1", process.smtp_port) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("app@example.com", ["user@nowhere.example.com"], "x")
        process.listing("domain", "suspend", DOMAIN, "--reason", "to have news")
        process.send(MESSAGE, USER)
        wait_for(process, port, "mcmt_rejections_total", "550", value=1)
        wait_for(process, port, "mcmt_xmpp_connected", "push.example.com", value=0)
        return wait_for(process, port, "mcmt_queued_deliveries", DOMAIN, value=1)


def test_an_alert_is_a_line_in_the_main_log_and_a_warning(tmp_path: Path, gateway: Simulator) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1", not_after=datetime.datetime.now(datetime.UTC) + datetime.timedelta(5))
    certificate = tmp_path / "listener.pem"
    certificate.touch(0o600)
    certificate.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    listener = {"listen": {"127.0.0.1:0": {"mcmt_reception": "allow", "tls_certificate": str(certificate)}}}
    with engine(tmp_path, {DOMAIN: gateway.stanza}, workers=2, esmtp_listener=listener) as process:
        process.wait(lambda: any(fields[4] == "N" for fields in process.mainlog))
        (line,) = [fields for fields in process.mainlog if fields[4] == "N"]
        assert line[6] == "alert"
        assert re.search(r"listener\.pem expires in [45] days", line[7])
        assert "warning: the certificate" in process.diagnostics.read_text()
