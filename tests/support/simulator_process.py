"""The Apple simulator as a process of its own, as a developer starts it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

OPTIONS_OF_A_DOMAIN = ("routes", "tls_ca", "apn_auth_key", "apn_key_id", "apn_team_id", "apn_topic")


class Simulator(NamedTuple):
    """A running simulator: the stanza of a domain that pushes to it, and what it says."""

    port: int
    stanza: dict[str, Any]
    output: Path

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.output.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line["event"] == event]

    @property
    def received(self) -> list[dict[str, Any]]:
        """The pushes that it answered, in order."""
        return self.said("push")


@contextlib.contextmanager
def simulator(folder: Path, *options: str, port: int = 0) -> Iterator[Simulator]:
    """*port*: the one to listen on, so that a gateway that was away can come back; 0: any."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "simulator.out"
    command = [sys.executable, "-m", "mcmt", "simulate", "apns", "--listen", f"127.0.0.1:{port}"]
    command += ["--credentials", str(folder / "credentials"), "--json", *options]
    with output.open("w") as stdout:
        process = subprocess.Popen(command, stdout=stdout)
    try:
        deadline = time.monotonic() + 20
        while "\n" not in output.read_text():
            assert process.poll() is None, f"the simulator ended with {process.returncode}"
            assert time.monotonic() < deadline, "the simulator does not say where it listens"
            time.sleep(0.02)  # files have no event to wait for
        listening = json.loads(output.read_text().splitlines()[0])
        stanza = {name: listening[name] for name in OPTIONS_OF_A_DOMAIN}
        yield Simulator(listening["port"], {"delivery_method": "apn", **stanza}, output)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
