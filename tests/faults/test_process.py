"""What only the real process can show: that it ends, and begins again, beside a gateway that is half-open."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from tests.faults.proxy import Fault, Phase, Proxy
from tests.faults.stage import SLACK, SLOWER, p99
from tests.support.engine_process import EngineProcess, apn_domain, engine, mcmt_message
from tests.support.peers import nginx
from tests.support.tls import Certificates

FAULTY, HEALTHY = "fault.example.com", "push.example.com"
COUNT = 100
DRAIN = 1.0


def latencies(process: EngineProcess, count: int) -> list[float]:
    """Seconds from the submission of a message to its D line, one message after another."""
    found = []
    for _ in range(count):
        began = time.monotonic()
        batch_id = process.send(mcmt_message(b'{"aps":{}}'), f"user@{HEALTHY}")
        process.wait(lambda name=f"{batch_id}-1": any(line[2] == name for line in process.logged("D")))  # type: ignore[misc]  # bound now
        found.append(time.monotonic() - began)
    return found


async def test_a_half_open_gateway_holds_up_neither_the_other_route_nor_the_end_nor_what_comes_after(
    tmp_path: Path, certificates: Certificates
) -> None:
    tokens = [f"{number:064x}" for number in range(1, COUNT + 1)]
    with nginx(tmp_path / "nginx", certificates) as peer:
        async with Proxy(Fault("hole", Phase.REQUEST), peer.port) as proxy:
            domains = {
                FAULTY: apn_domain(proxy.port, certificates, delivery_response_timeout=60_000, retry_interval="200ms"),
                HEALTHY: apn_domain(peer.port, certificates),
            }
            with engine(tmp_path / "engine", domains, drain_timeout=DRAIN) as process:
                await asyncio.to_thread(latencies, process, 5)
                calm = await asyncio.to_thread(latencies, process, 20)
                before = process.resident_bytes()
                message = mcmt_message(b'{"aps":{}}', token=",\r\n ".join(tokens))
                batch_id = await asyncio.to_thread(process.send, message, f"user@{FAULTY}")
                async with asyncio.timeout(10):
                    while not proxy.met:
                        await asyncio.sleep(0.01)
                busy = await asyncio.to_thread(latencies, process, 20)
                assert p99(busy) <= SLOWER * p99(calm) + SLACK
                assert process.resident_bytes() - before < 16 * 1024**2
                began = time.monotonic()
                assert await asyncio.to_thread(process.stop) == 0
                assert time.monotonic() - began < DRAIN + 5, "what is not answered does not keep it"
                in_doubt = {line[2] for line in process.logged("T")}
                await asyncio.to_thread(process.start)
                names = {f"{batch_id}-{number}" for number in range(1, COUNT + 1)}
                await asyncio.to_thread(process.wait, lambda: names <= {line[2] for line in process.logged("D")}, 60.0)
                lines = Counter(line[2] for line in process.logged("D") if line[2] in names)
                ids = {line[10]: line[2] for line in process.logged("D") if line[2] in names}
                assert set(lines.values()) == {1}
        received = Counter(request.apns_id for request in peer.requests() if request.apns_id in ids)
    assert set(received) == set(ids)
    assert {ids[apns_id] for apns_id, count in received.items() if count > 1} <= in_doubt
