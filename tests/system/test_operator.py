"""What an operator does to a running engine: suspend, resume, retry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.simulator_process import Simulator, simulator

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"
MESSAGE = mcmt_message(b'{"aps":{}}')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def test_a_domain_is_suspended_over_a_restart_and_resumed(tmp_path: Path, gateway: Simulator) -> None:
    with engine(tmp_path, {DOMAIN: gateway.stanza}) as process:
        (status,) = process.listing("domain", "suspend", DOMAIN, "--reason", "new certificate")
        assert status["state"] == "suspended by hand"
        process.send(MESSAGE, USER)
        process.stop()
        process.start()
        (status,) = process.status()["domains"]
        assert (status["state"], status["reason"], status["queued"]) == ("suspended by hand", "new certificate", 1)
        assert process.apnlog == []
        process.listing("domain", "resume", DOMAIN)
        process.wait_for("D")
        news = [fields for fields in process.mainlog if fields[4] == "N"]
        assert [fields[6] for fields in news] == ["suspended", "resumed"]


def test_a_retry_by_hand_does_not_wait_for_the_schedule(tmp_path: Path, gateway: Simulator) -> None:
    stanza = {**gateway.stanza, "retry_interval": "10m", "max_retry_interval": "15m"}
    with engine(tmp_path, {DOMAIN: stanza}) as process:
        process.send(mcmt_message(b'{"aps":{}}', token="dead500001" + "0" * 54), USER)
        process.wait_for("T")
        process.listing("queue", "retry", DOMAIN)
        process.wait_for("D")


def test_a_domain_that_the_engine_does_not_know_is_refused_by_name(tmp_path: Path, gateway: Simulator) -> None:
    with engine(tmp_path, {DOMAIN: gateway.stanza}) as process:
        refused = refusal(process, "domain", "suspend", "unknown.example.com")
        assert "unknown.example.com" in refused


def refusal(process: EngineProcess, *arguments: str) -> str:
    command = [sys.executable, "-m", "mcmt", *arguments, "--config", str(process.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    return done.stderr


def test_the_wrong_environment_bounces_nobody_and_says_what_to_look_at(tmp_path: Path, gateway: Simulator) -> None:
    """Every token of a list is refused as BadDeviceToken: kept, suspended, told."""
    with engine(tmp_path, {DOMAIN: gateway.stanza}) as process:
        tokens = ", ".join(f"dead400000{number:054x}" for number in range(40))
        process.send(mcmt_message(b'{"aps":{}}', token=tokens), USER)
        process.wait(
            lambda: [domain["state"] for domain in process.status()["domains"]] == ["suspended by a route fault"]
        )
        (status,) = process.status()["domains"]
        assert status["queued"] == 40
        assert "other environment" in status["reason"]
        assert process.apnlog == []
        process.listing("domain", "resume", DOMAIN, "--trust")
        assert {line[-1] for line in process.wait_for("P", 40)} == {"BadDeviceToken"}
