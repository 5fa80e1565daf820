"""Node's http2, a stack that is neither ours nor h2, gets along with the simulator."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from mcmt.simulator.credentials import Credentials

from .conftest import Simulate


async def test_a_thousand_pushes_from_node_are_answered_within_the_limit(
    simulate: Simulate, credentials: Credentials, bearer: str
) -> None:
    """It obeys one stream, then five hundred; every tenth token is gone, as 410 says."""
    simulator = await simulate(max_streams=500)
    process = await asyncio.create_subprocess_exec(
        "node",
        str(Path(__file__).with_name("node_client.js")),
        str(simulator.port),
        str(credentials.ca),
        bearer,
        "1000",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, errors) == (0, b"")
    assert json.loads(output) == {"answers": {"200": 900, "410 Unregistered": 100}, "goaways": 0}
    assert simulator.counts == {(200, ""): 900, (410, "Unregistered"): 100}
    assert simulator.violations == []
    assert 100 < simulator.streams_peak <= 500
