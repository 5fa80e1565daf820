"""The engine on a disk whose power can fail, with applications that submit to it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.crash.disk import Disk
from tests.crash.sender import DOMAIN, KeyedSender, Sender, Wish, plain
from tests.support.engine_process import EngineProcess

LONG = bool(os.environ.get("MCMT_LONG_CRASH"))
"""The long form: ``make crash``."""
SESSIONS = 3
WORKERS = 2


class Stage:
    """An engine in a folder, the disk below it, and the record of what got a 250."""

    def __init__(self, folder: Path, stanza: Mapping[str, Any], shim: Path | None = None, **stanzas: Any) -> None:
        """*shim*: keep a journal, so that power can fail."""
        domains = {DOMAIN: dict(stanza), **stanzas.pop("others", {})}
        self.process = EngineProcess(folder, domains, **{"workers": WORKERS, **stanzas})
        self.disk = Disk(folder)
        self.accepted: list[str] = []
        self.wanting: list[str] = []
        """Of those: the ones whose senders want to hear of success."""
        self.refused: list[bytes] = []
        self._shim = shim
        self._tokens = itertools.count(1)

    def start(self, forget: str = "") -> None:
        """Start the engine. *forget*: leave out the syncs of files with this in their path."""
        self.process.start(**self.options(forget))

    def options(self, forget: str = "") -> dict[str, Any]:
        """How it is started: in a process group of its own."""
        if self._shim is None:
            return {"start_new_session": True}
        return {"start_new_session": True, "env": self.disk.environment(self._shim, forget)}

    @contextlib.contextmanager
    def load(
        self,
        sessions: int = SESSIONS,
        pause: float = 0.0,
        kind: Callable[[int], Wish] = plain,
    ) -> Iterator[None]:
        """Applications submit while this lasts; one with keys too where there is an HTTP API."""
        journal = os.open(self.disk.journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        noted: Callable[[str], None] = lambda text: self.disk.note(journal, text)  # noqa: E731
        port, numbers = self.process.smtp_port, self._tokens
        senders = [Sender(port, numbers, noted, pause, kind) for _ in range(sessions)]
        keyed = [KeyedSender(port, noted) for port in self.process.doors.values()]
        everyone: list[Sender | KeyedSender] = [*senders, *keyed]
        for one in everyone:
            one.start()
        try:
            yield
        finally:
            for one in everyone:
                one.stop()
            for one in everyone:
                one.join(20)
                assert not one.is_alive()
                self.accepted += one.accepted
            for sender in senders:
                self.wanting += sender.wanting
                self.refused += sender.refused
            os.close(journal)

    def kill(self) -> None:
        """SIGKILL to every process of the engine at once; returns when none is left."""
        process = self.process.process
        assert process is not None
        os.killpg(process.pid, signal.SIGKILL)
        self.reap()

    def kill_one(self, pid: int) -> None:
        """SIGKILL to one process of the engine. When it is the supervisor, returns when none is left."""
        process = self.process.process
        assert process is not None
        os.kill(pid, signal.SIGKILL)
        if pid == process.pid:
            self.reap()

    def reap(self) -> None:
        """The supervisor was killed: return when no worker is left."""
        process = self.process.process
        assert process is not None
        group = process.pid
        self.process.kill()
        deadline = time.monotonic() + 10
        while members(group):
            assert time.monotonic() < deadline
            time.sleep(0.005)  # whose parent is gone is nobody's to wait for

    def workers(self) -> list[int]:
        """The pids of the workers that there are."""
        process = self.process.process
        assert process is not None
        return [pid for pid in members(process.pid) if pid != process.pid]

    def lose_power(self, draw: random.Random) -> None:
        """Kill everything, and leave on the disk what a power loss leaves."""
        self.kill()
        self.disk.replay(self.disk.records(), draw)
        self.disk.restore(self.disk.left(draw))
        self.disk.begin()

    def audit(self) -> str:
        """What ``mcmt audit`` says of the running engine; AssertionError unless it is proven."""
        done = subprocess.run(self.process.command("audit"), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def members(group: int) -> list[int]:
    """The processes of a process group that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, of, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(of) == group and state not in "ZX":
                    found.append(int(entry.name))
    return found
