"""A page of a shard that makes no sense: the engine salvages it by itself, delivers the rest and names what is lost."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.crash.sender import DOMAIN
from tests.support.engine_process import EngineProcess, mcmt_message
from tests.support.peers import free_port

USER = f"user@{DOMAIN}"
MESSAGES = 120


def send(process: EngineProcess, number: int) -> str:
    return process.send(mcmt_message(b'{"aps":{"alert":"hello"}}', token=f"{number:064x}"), USER)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_page_costs_what_stood_on_it_and_no_more(
    tmp_path: Path, stanza: dict[str, Any], workers: int
) -> None:
    listen = {"listen": {f"127.0.0.1:{free_port()}": {"mcmt_reception": "allow"}}}
    process = EngineProcess(tmp_path, {DOMAIN: stanza}, workers=workers, esmtp_listener=listen)
    process.start()
    subprocess.run(process.command("domain", "suspend", DOMAIN), check=True, capture_output=True)
    accepted = [send(process, number) for number in range(MESSAGES)]
    assert process.stop() == 0
    shard = tmp_path / "spool" / "shard-0.sqlite"
    damage(shard)

    process.start()
    try:
        resume = process.command("domain", "resume", DOMAIN)
        # Whoever meets the page first has the process begin again, the one that answers this perhaps.
        process.wait(lambda: subprocess.run(resume, check=False, capture_output=True).returncode == 0)
        process.wait(lambda: bool(list(shard.parent.glob("*.damaged-*"))), 20)
        process.wait(lambda: ended(process) >= MESSAGES, 30)
        accepted.append(send(process, MESSAGES))
        process.wait(lambda: ended(process) > MESSAGES, 30)
        audit = subprocess.run(process.command("audit", "--json"), capture_output=True, text=True, check=False)
    finally:
        process.stop()
    told = json.loads(audit.stdout)
    assert told["verdict"] == "proven", audit.stdout
    assert 0 < told["quarantined"] < MESSAGES / 3
    assert told["delivered"] == len(accepted) - told["quarantined"]
    assert "salvage" in process.diagnostics.read_text()


def damage(shard: Path) -> None:
    connection = apsw.Connection(str(shard))
    found: list[Any] = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = 'delivery' AND pagetype = 'leaf' ORDER BY path"
    ).fetchall()
    connection.close()
    assert len(found) > 2
    with shard.open("r+b") as handle:
        handle.seek((found[1][0] - 1) * 4096)
        handle.write(b"\xff" * 4096)


def ended(process: EngineProcess) -> int:
    """Deliveries that the main log has a final line or a quarantine line of."""
    return len({line[1] for line in process.mainlog if line[4] in "DPQ" and "-" in line[1]})
