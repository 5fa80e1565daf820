"""The whole engine against everything that the simulator can do wrong, with hundreds of good pushes beside it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import engine, mcmt_message
from tests.support.simulator_process import simulator

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"
GOOD = 600

FAULTS = {
    "no answer": "00",
    "REFUSED_STREAM": "01",
    "INTERNAL_ERROR": "02",
    "CANCEL": "03",
    "RST NO_ERROR behind the answer": "04",
    "GOAWAY that lets every stream live": "05",
    "GOAWAY that lets none live": "06",
    "GOAWAY that lets half live": "07",
    "GOAWAY with debug data": "08",
    "TCP connection dropped": "09",
    "late answer": "10",
    "slow answer": "11",
    "500 that is not JSON": "13",
    "one stream at a time": "14",
    "window of zero": "15",
}
"""By the simulator's reserved tokens (docs/simulator.md): each happens once, then the token is good."""


def totals(output: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(output.read_text().splitlines()[-1])
    assert said["event"] == "totals"
    return said


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_happens_on_the_way_each_delivery_is_delivered_and_logged_once(tmp_path: Path, fault: str) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        stanza = {
            **gateway.stanza,
            "delivery_response_timeout": 1500,
            "retry_interval": "100ms",
            "max_retry_interval": "500ms",
        }
        with engine(tmp_path / "engine", {DOMAIN: stanza}) as process:
            tokens = [f"{number:064x}" for number in range(1, GOOD + 1)]
            tokens[GOOD // 2] = f"fa11{FAULTS[fault]}1" + "0" * 57
            batch_id = process.send(mcmt_message(b'{"aps":{}}', token=",\r\n ".join(tokens)), USER)
            lines = process.wait_for("D", GOOD, within=40)
            assert process.stop() == 0
            assert Counter(line[2] for line in process.logged("D")) == Counter(
                f"{batch_id}-{number}" for number in range(1, GOOD + 1)
            )
            assert process.logged("P") == []
            attempts = Counter(line[10] for line in process.logged("T"))
        answered = Counter(push["apns_id"] for push in gateway.received if push["status"] == 200)
        output = gateway.output
    assert totals(output)["violations"] == [], "no stream over the limit, nothing that Apple would punish"
    assert set(answered) == {line[10] for line in lines}
    twice = {apns_id for apns_id, count in answered.items() if count > 1}
    assert twice <= set(attempts), "only what was in doubt, and said so in the log, was sent again"


def test_every_reason_of_apple_ends_as_the_table_says(tmp_path: Path) -> None:
    """One token for each message-level reason, in one message."""
    permanent = {
        "dead40000": "BadDeviceToken",
        "dead40001": "BadCollapseId",
        "dead40002": "BadExpirationDate",
        "dead40003": "BadMessageId",
        "dead40004": "BadPriority",
        "dead40006": "DeviceTokenNotForTopic",
        "dead40007": "DuplicateHeaders",
        "dead40009": "InvalidPushType",
        "dead40010": "MissingDeviceToken",
        "dead40012": "PayloadEmpty",
        "dead40305": "Forbidden",
        "dead40400": "BadPath",
        "dead40500": "MethodNotAllowed",
        "dead41000": "Unregistered",
        "dead41001": "ExpiredToken",
        "dead41300": "PayloadTooLarge",
    }
    transient = {"dead50000": "InternalServerError", "dead50300": "ServiceUnavailable"}
    with simulator(tmp_path / "gateway") as gateway:
        stanza = {**gateway.stanza, "retry_interval": "100ms"}
        with engine(tmp_path / "engine", {DOMAIN: stanza}) as process:
            process.send(mcmt_message(b'{"aps":{}}'), USER)
            process.wait_for("D", 1)  # a good token first, as in life: otherwise the mismatch guard waits
            tokens = [f"{token}0".ljust(64, "0") for token in permanent]
            tokens += [f"{token}1".ljust(64, "0") for token in transient]
            process.send(mcmt_message(b'{"aps":{}}', token=",\r\n ".join(tokens)), USER)
            failed = process.wait_for("P", len(permanent))
            process.wait_for("D", 1 + len(transient))
            tried = process.logged("T")
    assert Counter(line[-1] for line in failed) == Counter(permanent.values())
    assert Counter(line[-1] for line in tried) == Counter(transient.values())
