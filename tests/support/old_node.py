"""apn@1.7.8, the last node-apn that spoke the binary protocol, as a process."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.peers import find_program

HERE = Path(__file__).parent
LIBRARY = HERE.parents[1] / ".peers" / "apn1" / "node_modules" / "apn"
"""Where tests/peers.sh puts it."""
UID = "com.example.app"


def apple_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate with the marks that node-apn looks for (Apple's environments), and the bundle id; and its key."""
    certificate, key = folder / "sender.pem", folder / "sender.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    command += ["-subj", f"/UID={UID}/CN=Apple Development IOS Push Services: {UID}"]
    for environment in ("1", "2"):
        command += ["-addext", f"1.2.840.113635.100.6.3.{environment}=ASN1:NULL"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class OldNode:
    """The running application: tokens in, events out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def say(self, *lines: str) -> None:
        """Tokens to push to, or a request."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.flush()

    def until(self, condition: Callable[[list[dict[str, Any]]], bool], within: float = 20.0) -> list[dict[str, Any]]:
        """Its events so far, once they meet *condition*."""
        while not condition(self.events):
            try:
                self.events.append(self._lines.get(timeout=within))
            except queue.Empty:
                raise AssertionError(f"waited {within} s; its last events: {self.events[-5:]}") from None
        return self.events


@contextlib.contextmanager
def old_node(port: int, ca: Path, certificate: Path, key: Path) -> Iterator[OldNode]:
    """Connects when it is given the first token."""
    assert LIBRARY.exists(), f"{LIBRARY} is not there: run tests/peers.sh"
    command = [find_program("node"), str(HERE / "old_node_sender.js"), str(LIBRARY), "localhost", str(port)]
    command += [str(ca), str(certificate), str(key)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield OldNode(process)
    finally:
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()
