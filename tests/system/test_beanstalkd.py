"""Jobs on a real beanstalkd and the real process: what producers put is delivered, whatever is killed.

docs/migrate.md shows the commands and the configuration that are run here.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.beanstalkd import Beanstalkd, beanstalkd
from tests.support.engine_process import EngineProcess
from tests.support.simulator_process import Simulator, simulator

DOMAIN = "apn.example.com"
TOPIC = "com.example.app"
OTHER = "default"
"""Its jobs' topic is the domain's own."""
MIGRATE = Path(__file__).parents[2] / "docs" / "migrate.md"
KILLS = 40 if os.environ.get("MCMT_LONG_KILLS") else 3
MANY = 5000 if os.environ.get("MCMT_LONG_KILLS") else 500
JOBS = 400
"""Put between two kills."""


def token(number: int) -> str:
    return f"{number:064x}"


def put(server: Beanstalkd, numbers: range, tube: str = TOPIC) -> None:
    with server.client(tube) as client:
        for number in numbers:
            client.put(json.dumps({"token": token(number), "title": "Hello", "body": "It works", "badge": 3}))


def arrived(apple: Simulator) -> Counter[str]:
    return Counter(push["token"] for push in apple.received if push["status"] == 200)


@contextmanager
def engine_for(folder: Path, apple: Simulator, server: Beanstalkd, workers: int) -> Iterator[EngineProcess]:
    """An engine that takes jobs of *server* and does not run yet; ended afterwards."""
    source = {"tubes": {TOPIC: DOMAIN, OTHER: DOMAIN}, "return_path": "app@example.com"}
    domain: dict[str, Any] = {**apple.stanza, "retry_interval": "100ms"}
    process = EngineProcess(
        folder,
        {DOMAIN: domain},
        generate_bounces=False,
        workers=workers,
        beanstalkd={"connect": {server.address: source}},
    )
    try:
        yield process
    finally:
        if process.process is not None:
            process.kill()


def test_producers_of_jobs_move_in(tmp_path: Path) -> None:
    """With the producer that the manual shows, MANY jobs that wait already, and one that cannot be sent."""
    section = MIGRATE.read_text().partition("## Jobs put on beanstalkd")[2]
    shown = section.partition("```python\n")[2].partition("```")[0]
    with (
        simulator(tmp_path / "apple") as apple,
        beanstalkd() as server,
        engine_for(tmp_path / "engine", apple, server, workers=2) as process,
    ):
        put(server, range(10**6, 10**6 + MANY))
        checked = subprocess.run(process.command("check"), capture_output=True, text=True, timeout=30).stdout
        process.start()
        began = time.monotonic()
        process.wait(lambda: not server.left(TOPIC))
        taken = time.monotonic() - began
        process.wait(lambda: sum(arrived(apple).values()) >= MANY, within=60)
        print(f"{MANY / taken:.0f} jobs a second taken, {MANY / (time.monotonic() - began):.0f} delivered")
        program = shown.replace("11300", str(server.port))
        subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
        put(server, range(2000, 2020), OTHER)
        with server.client(TOPIC) as client:
            broken = client.put("no json")
            client.put(json.dumps({"token": token(7), "title": "later", "body": None, "badge": 0}), delay=1)
        process.wait(lambda: sum(arrived(apple).values()) == MANY + 22)
        process.wait(lambda: server.stats(TOPIC)["current-jobs-buried"] == 1)
        sources = {source["name"]: source for source in process.status()["sources"]}
        shown_status = subprocess.run(process.command("status"), capture_output=True, text=True, timeout=30).stdout
        assert process.stop() == 0
        receptions = [line for line in process.mainlog if line[4] == "R"]
        (rejection,) = [line for line in process.mainlog if line[4] == "J"]
        diagnostics = process.diagnostics.read_text()
    first = next(push for push in apple.received if push["token"] == "0123456789abcdef" * 4)
    assert first["payload"] == '{"aps":{"content-available":0,"alert":{"title":"Hello","body":"It works"},"badge":3}}'
    assert {push["topic"] for push in apple.received} == {TOPIC}
    assert {line[10] for line in receptions} == {"beanstalkd"}
    assert {line[8] for line in receptions} == {"127.0.0.1"}
    assert rejection[3].endswith(f"-{broken}")
    assert f"tube {TOPIC}: job {broken} is buried: " in diagnostics
    assert (sources[TOPIC]["taken"], sources[TOPIC]["buried"], sources[OTHER]["taken"]) == (MANY + 2, 1, 20)
    told = f"tube {TOPIC}: connected; 0 reserved, {MANY + 2} taken, 0 repeated, 1 buried"
    assert told in " ".join(shown_status.split())  # it is folded to the width of the terminal
    assert set(arrived(apple).values()) == {1}
    assert f"beanstalkd at {server.address}: tube {TOPIC} to {DOMAIN}" in checked


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_of_the_engine_loses_no_job_and_repeats_none(tmp_path: Path, workers: int) -> None:
    """Killed KILLS times, at any moment, the whole of it or a worker: each job is received once."""
    chance = random.Random(workers)
    with (
        simulator(tmp_path / "apple") as apple,
        beanstalkd() as server,
        engine_for(tmp_path / "engine", apple, server, workers) as process,
    ):
        for kill in range(KILLS):
            if process.process is None:
                process.start()
            numbers, tube = range(kill * JOBS, (kill + 1) * JOBS), chance.choice((TOPIC, OTHER))
            goal = server.deleted() + chance.randrange(1, JOBS // 2)
            producer = threading.Thread(target=put, args=(server, numbers, tube))
            producer.start()
            process.wait(lambda goal=goal: server.deleted() >= goal)  # type: ignore[misc]
            if workers > 1 and kill % 2:
                os.kill(chance.choice(process.status()["workers"]), signal.SIGKILL)
            else:
                process.kill()
            producer.join(30)
        if process.process is None:
            process.start()
        everything = {token(number) for number in range(KILLS * JOBS)}
        process.wait(lambda: set(arrived(apple)) == everything, within=60)
        process.wait(lambda: not server.left(TOPIC) + server.left(OTHER), within=60)
        assert process.stop() == 0
        receptions = [line for line in process.mainlog if line[4] == "R"]
    # A delivery is repeated, under the same apns-id, when the kill came before its answer was on disk; a job never is.
    assert len(receptions) == KILLS * JOBS
    assert len({push["apns_id"] for push in apple.received}) == KILLS * JOBS


@pytest.mark.parametrize("workers", [2])
def test_a_beanstalkd_that_is_killed_and_has_written_its_jobs_down_is_gone_on_with(
    tmp_path: Path, workers: int
) -> None:
    with (
        simulator(tmp_path / "apple") as apple,
        beanstalkd(tmp_path / "binlog", "-f", "0") as server,
        engine_for(tmp_path / "engine", apple, server, workers) as process,
    ):
        process.start()
        for round_ in range(3):
            put(server, range(round_ * JOBS, (round_ + 1) * JOBS))
            process.wait(lambda: server.deleted() > 0)
            server.kill()
            server.start()
        process.wait(lambda: len(arrived(apple)) == 3 * JOBS, within=60)
        process.wait(lambda: not server.left(TOPIC), within=60)
        assert process.stop() == 0
        receptions = [line for line in process.mainlog if line[4] == "R"]
    assert arrived(apple) == Counter(token(number) for number in range(3 * JOBS))
    assert len(receptions) == 3 * JOBS
