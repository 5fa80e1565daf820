"""A throttle holds for all workers together, seen from the gateway."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

from tests.support.engine_process import engine
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
        took = Counter(line[1] for line in process.logged("T"))
    # The gateway may be slow to read what came in time: so much late is allowed, beside a quarter second's worth.
    most = max(
        number - first + 1 - (time - times[first]) * RATE
        for first in range(len(times))
        for number, time in list(enumerate(times))[first:]
    )
    assert most <= RATE * 1.0, f"{most:.1f} deliveries over the rate"
    assert times[-1] - times[0] >= (len(accepted) - RATE) / RATE
    assert not took, "a throttled wait is no attempt"
