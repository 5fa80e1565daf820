"""Shaping rules, seen from the gateway, with two workers: its answers slow a domain down, stop it, and let it go on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.engine_process import EngineProcess, engine
from tests.support.simulator_process import Simulator, simulator
from tests.system.test_workers import submit, wait

SLOW, STOP = "slow.example.com", "stop.example.com"
RATE = 10
LASTS = 8
RULES = {
    "too-many": {
        "match": {"code": 429, "reason": "TooManyRequests"},
        "times": 10,
        "within": "10m",
        "then": {"set": {"outbound_throttle_messages": f"{RATE}/s"}, "duration": f"{LASTS}s"},
    },
    "down": {
        "match": {"code": "5xx", "reason": "/service ?unavailable/"},
        "times": 10,
        "within": "10m",
        "without_success": True,
        "then": {"suspend": True, "duration": "until_resumed"},
    },
}
BUSY = "rules: [{first: 20, answer: 429 TooManyRequests, retry_after: 1}]"
# Enough for the rule once, and never twice.
DOWN = "rules: [{first: 15, answer: 503 ServiceUnavailable}]"


@contextlib.contextmanager
def gateway(folder: Path, rules: str) -> Iterator[Simulator]:
    """Apple's, answering by these rules of its own."""
    folder.mkdir()
    (folder / "rules.yaml").write_text(rules)
    with simulator(folder, "--rules", str(folder / "rules.yaml")) as one:
        yield one


def show(process: EngineProcess, domain: str) -> str:
    return subprocess.run(process.command("domain", "show", domain), capture_output=True, text=True, check=True).stdout


def news(process: EngineProcess, domain: str) -> list[tuple[str, str]]:
    return [
        (line[6], line[7].partition(":")[0])
        for line in process.mainlog
        if line[4] == "N" and line[5] == domain and line[6].startswith("rule")
    ]


def test_a_gateways_answers_slow_a_domain_down_and_stop_another_over_a_restart_until_it_is_resumed(
    tmp_path: Path,
) -> None:
    with gateway(tmp_path / "slow", BUSY) as slow, gateway(tmp_path / "stop", DOWN) as stop:
        domains: dict[str, Any] = {SLOW: slow.stanza, STOP: stop.stanza}
        shared = {"rules": RULES, "retry_interval": 1, "workers": 2}
        with engine(tmp_path / "engine", domains, **shared) as process:
            for domain in (SLOW, STOP):
                for _ in range(2):  # a session each for two workers: neither sees ten of the answers that count
                    submit(process, 9, domain)
            # The one that is slowed down.
            wait(lambda: ("rule_began", "too-many") in news(process, SLOW))
            shown = show(process, SLOW)
            assert "too-many since 20" in shown
            assert f"outbound_throttle_messages       {RATE}/1 (by rule too-many)" in shown
            for _ in range(2):
                submit(process, 40, SLOW)
            wait(lambda: ("rule_ended", "too-many") in news(process, SLOW), within=40)
            (began,) = (int(line[0]) for line in process.mainlog if line[5:7] == [SLOW, "rule_began"])
            # By the clock of the log, which has whole seconds.
            slowed = [push for push in slow.received if began + 1 <= push["time"] < began + LASTS]
            assert len(slowed) <= RATE * (LASTS - 1) + RATE, "no more than the rate while the rule was in force"
            # What waited when the rule ended comes at once.
            wait(lambda: len(process.logged("D")) == 98, within=40)
            assert "by rule" not in show(process, SLOW)
            # The one that is stopped.
            assert news(process, STOP) == [("rule_began", "down")]
            assert "suspended by a rule: down: 10 answers within 600 s, none accepted" in show(process, STOP)
            assert process.stop() == 0
            stopped = len(stop.received)
            process.start()
            submit(process, 5, STOP)
            assert "until it is resumed: suspend" in show(process, STOP)
            assert len(stop.received) == stopped
            process.operate("domain", "resume", STOP)
            wait(lambda: len(process.logged("D")) == 98 + 23, within=40)
            assert news(process, STOP) == [("rule_began", "down"), ("rule_ended", "down")]


def test_a_reload_ends_a_rule_that_it_takes_away(tmp_path: Path) -> None:
    with (
        gateway(tmp_path / "stop", DOWN) as stop,
        engine(
            tmp_path / "engine",
            {STOP: stop.stanza},
            rules=RULES,
            retry_interval=1,
            workers=2,
        ) as process,
    ):
        submit(process, 10, STOP)
        wait(lambda: process.domains()[0].state == "suspended by a rule")
        document = yaml.safe_load(process.config.read_text())
        document["domain"][STOP]["rules"] = {"down": None}
        process.config.write_text(yaml.safe_dump(document))
        process.operate("reload")
        wait(lambda: len(process.logged("D")) == 10, within=40)
        assert news(process, STOP) == [("rule_began", "down"), ("rule_ended", "down")]
