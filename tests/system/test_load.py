"""What the engine does under load: Postfix's smtp-source in front, nginx behind."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mcmt.message.identity import uuid_of
from tests.support.engine_process import EngineProcess, apn_domain, engine, mcmt_message
from tests.support.peers import Nginx, find_program, nginx
from tests.support.tls import Certificates

DOMAIN = "apn.example.com"
DEAD = "dead.example.com"
PAYLOAD = b'{"aps":{"alert":"You have mail","badge":9,"sound":"dingdong.aiff"}}'


def smtp_source(folder: Path, port: int, count: int, sessions: int, domain: str = DOMAIN) -> subprocess.Popen[bytes]:
    """Postfix's load generator, submitting *count* messages."""
    file = folder / "message"
    file.write_bytes(mcmt_message(PAYLOAD).replace(b"\r\n", b"\n"))
    command = [find_program("smtp-source"), "-d", "-s", str(sessions), "-m", str(count), "-F", str(file)]
    return subprocess.Popen([*command, "-f", "app@example.com", "-t", f"user@{domain}", f"127.0.0.1:{port}"])


def watch(peer: Nginx, until: Callable[[], bool], within: float) -> int:
    """The most connections that nginx saw open at once until then."""
    peak = 0
    deadline = time.monotonic() + within
    while not until():
        peak = max(peak, peer.active_connections())
        assert time.monotonic() < deadline, f"nginx has {len(peer.requests())} requests"
        time.sleep(0.1)  # stub_status has no event to wait for
    return peak


def test_ten_thousand_messages_are_ten_thousand_requests_and_ten_thousand_lines(
    tmp_path: Path, certificates: Certificates
) -> None:
    with nginx(tmp_path / "nginx", certificates) as peer:
        domain = apn_domain(peer.port, certificates, max_outbound_connections=2)
        with engine(tmp_path / "engine", {DOMAIN: domain}) as process:
            source = smtp_source(tmp_path, process.smtp_port, 10_000, sessions=50)
            peak = watch(peer, lambda: len(peer.requests()) >= 10_000, within=90)
            assert source.wait(30) == 0
            process.wait_for("D", 10_000)
            assert process.stop() == 0
        requests = peer.requests()
        lines = process.logged("D")
    assert len(requests) == 10_000
    assert len(lines) == 10_000
    assert Counter(request.apns_id for request in requests) == Counter(line[10] for line in lines)
    assert Counter(line[1] for line in process.apnlog) == {"D": 10_000}
    assert peak <= 2


def test_a_slow_sink_sees_the_limit_on_connections_reached_and_never_passed(
    tmp_path: Path, certificates: Certificates
) -> None:
    """200 due, few streams a connection, every answer delayed."""
    with nginx(
        tmp_path / "nginx",
        certificates,
        streams=4,
        server="limit_req zone=slow burst=1000;",
        device="try_files /none @answer;",
        before="limit_req_zone $server_port zone=slow:1m rate=40r/s;",
    ) as peer:
        domain = apn_domain(peer.port, certificates, max_outbound_connections=3)
        with engine(tmp_path / "engine", {DOMAIN: domain}) as process:
            assert smtp_source(tmp_path, process.smtp_port, 200, sessions=10).wait(30) == 0
            peak = watch(peer, lambda: len(peer.requests()) >= 200, within=60)
            process.wait_for("D", 200)
    assert peak == 3


def latencies(process: EngineProcess, count: int) -> list[float]:
    """Seconds from submitting to the line in the log, one message after another."""
    times = []
    for _ in range(count):
        started = time.monotonic()
        batch_id = process.send(mcmt_message(PAYLOAD), f"user@{DOMAIN}")
        apns_id = uuid_of(batch_id, 1)
        log = process.folder / "logs" / "apnlog.ec"
        while apns_id not in log.read_text():
            assert time.monotonic() - started < 10
            time.sleep(0.0005)
        times.append(time.monotonic() - started)
    return times


def test_two_hundred_thousand_deliveries_for_a_dead_domain_cost_little_memory_and_slow_nobody_down(
    tmp_path: Path, certificates: Certificates
) -> None:
    """Memory stays under 150 MB; the 99th percentile of a healthy domain does not move."""
    with nginx(tmp_path / "nginx", certificates) as peer:
        dead = apn_domain(1, certificates)  # nobody listens on port 1
        domains = {DOMAIN: apn_domain(peer.port, certificates), DEAD: dead}
        with engine(tmp_path / "engine", domains) as process:
            latencies(process, 20)  # warm
            before = latencies(process, 200)
            for first in range(0, 200_000, 10_000):
                tokens = ",\r\n ".join(f"{number:064x}" for number in range(first, first + 10_000))
                process.send(mcmt_message(PAYLOAD, token=tokens), f"user@{DEAD}")
            assert process.status()["queued"] == 200_000
            after = latencies(process, 200)
            assert process.resident_bytes() < 150 * 1024**2
            assert [fields for fields in process.apnlog if fields[5] == DEAD] == []
    quantile = 98  # of 99 cut points: the 99th percentile
    p99_before = statistics.quantiles(before, n=100)[quantile]
    p99_after = statistics.quantiles(after, n=100)[quantile]
    # The machine's own noise is larger than what is looked for: a queue that is walked, or a body that is read, for
    # each of 200,000 deliveries would cost hundreds of milliseconds.
    assert p99_after < max(2 * p99_before, p99_before + 0.02), (p99_before, p99_after)


def test_a_spool_of_many_deliveries_is_taken_up_again_within_seconds(
    tmp_path: Path, certificates: Certificates
) -> None:
    process = EngineProcess(tmp_path / "engine", {DEAD: apn_domain(1, certificates)})
    process.start()
    for _ in range(5):
        tokens = ",\r\n ".join(f"{number:064x}" for number in range(10_000))
        process.send(mcmt_message(PAYLOAD, token=tokens), f"user@{DEAD}")
    process.kill()
    with nginx(tmp_path / "nginx", certificates) as peer:
        again = EngineProcess(tmp_path / "engine", {DEAD: apn_domain(peer.port, certificates)})
        started = time.monotonic()
        again.start()
        try:
            again.wait_for("D", 1)
            assert time.monotonic() - started < 5
            again.wait(lambda: len(peer.requests()) >= 50_000, within=60)
            again.wait_for("D", 50_000, within=60)
        finally:
            again.stop()
        assert Counter(request.status for request in peer.requests()) == {200: 50_000}
