"""From Momentum: the configuration of its manual, imported, delivers a push."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.engine_process import EngineProcess, mcmt_message
from tests.support.simulator_process import simulator
from tests.unit.config.test_momentum import SAMPLE


def mcmt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcmt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_configuration_of_momentums_manual_delivers_a_push(tmp_path: Path) -> None:
    """As it stands there, but for the gateway, the certificate, and where this machine may listen and write."""
    with simulator(tmp_path / "gateway") as gateway:
        (listening,) = gateway.said("listening")
        text = SAMPLE
        for theirs, ours in {
            '":25"': '"127.0.0.1:0"',
            "/path/to/cert": listening["tls_certificate"],
            "/path/to/key": listening["tls_key"],
            "gateway.push.apple.com?port=2195": f"127.0.0.1?port={gateway.port}",
            "/var/log/ecelerity/apnlog.ec": str(tmp_path / "engine" / "logs" / "apnlog.ec"),
        }.items():
            assert theirs in text
            text = text.replace(theirs, ours)
        process = EngineProcess(tmp_path / "engine", {})
        momentum = process.folder / "ecelerity.conf"
        momentum.write_text(text)
        imported = mcmt("import-momentum", str(momentum))
        assert imported.returncode == 0, imported.stderr
        process.config.write_text(imported.stdout)
        checked = mcmt("check", "--config", str(process.config))
        assert checked.returncode == 0, checked.stderr

        process.start()
        try:
            # The simulator's certificate is for several apps.
            topic = f"apns-topic: {gateway.stanza['apn_topic']}\r\n"
            process.send(mcmt_message(b'{"aps":{"alert":"Hello"}}', headers=topic), "push@apn_example.com")
            process.wait_for("D")
        finally:
            assert process.stop() == 0
        (push,) = gateway.received
        assert push["status"] == 200
