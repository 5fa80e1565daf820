"""A throttle holds for all workers together, seen from the gateway."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.engine_process import EngineProcess, engine
from tests.support.simulator_process import simulator
from tests.system.test_workers import assert_each_once, submit, wait, workers

RATE = 40
DOMAINS = ("a.example.com", "b.example.com")


def test_two_workers_and_two_domains_share_one_rate_also_while_a_worker_is_killed(tmp_path: Path) -> None:
    with (
        simulator(tmp_path / "simulator") as gateway,
        engine(
            tmp_path / "engine",
            dict.fromkeys(DOMAINS, gateway.stanza),
            workers=2,
            outbound_throttle_messages=f"{RATE}/s",
        ) as process,
    ):
        # Each session has the worker that has fewer, so both have mail for both domains.
        accepted = [batch for number in range(8) for batch in submit(process, 25, DOMAINS[number % 4 // 2])]
        states = {one.state for one in process.domains()}
        assert "throttled" in states
        (reason,) = {one.reason for one in process.domains() if one.state == "throttled"}
        assert reason == f"outbound_throttle_messages {RATE}/1 of all domains"
        wait(lambda: len(gateway.received) >= 60)
        os.kill(workers(process)[0], signal.SIGKILL)
        wait(lambda: len(process.logged("D")) >= len(accepted), within=40)
        assert_each_once(process, gateway, accepted)
        times = sorted(push["time"] for push in gateway.received)
        took = process.logged("T")
    # The gateway may be slow to read what came in time: so much late is allowed, beside a quarter second's worth.
    most = max(
        number - first + 1 - (time - times[first]) * RATE
        for first in range(len(times))
        for number, time in list(enumerate(times))[first:]
    )
    assert most <= RATE * 1.0, f"{most:.1f} deliveries over the rate"
    assert times[-1] - times[0] >= (len(accepted) - RATE) / RATE
    assert not took, "a throttled wait is no attempt"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_brings_and_takes_throttles_and_curfews(tmp_path: Path, workers: int) -> None:
    sink = {"delivery_method": "discard", "routes": ["discard://sink"]}

    def state(process: EngineProcess) -> str:
        shown = subprocess.run(
            process.command("domain", "show", DOMAINS[0]), capture_output=True, text=True, check=True
        )
        return next(line for line in shown.stdout.splitlines() if line.startswith("state "))

    def shape(process: EngineProcess, **options: Any) -> None:
        document = yaml.safe_load(process.config.read_text())
        process.config.write_text(yaml.safe_dump(document | options))
        process.operate("reload")

    with engine(
        tmp_path / "engine", {DOMAINS[0]: sink}, workers=workers, outbound_throttle_messages="1/min"
    ) as process:
        for _ in range(2):  # a session each for two workers
            submit(process, 5, DOMAINS[0])
        why = "outbound_throttle_messages 1/60 of all domains"
        wait(lambda: (process.domains()[0].state, process.domains()[0].reason) == ("throttled", why))
        days = [(datetime.now(UTC) + timedelta(days=day)).strftime("%a").lower() for day in (0, 1)]
        whole = {"start": "00:00", "end": "24:00", "time_zone": "UTC", "days": days}
        shape(process, curfew=whole)
        assert "curfew: until " in state(process)
        assert sum(fields[4] == "D" for fields in process.mainlog) <= 2
        shape(process, curfew=[], outbound_throttle_messages=0)  # at the old rate it would be minutes
        wait(lambda: sum(fields[4] == "D" for fields in process.mainlog) == 10)
