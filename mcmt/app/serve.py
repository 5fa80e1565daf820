"""``serve``: an engine from its start until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from mcmt import systemd
from mcmt.config.settings import Settings
from mcmt.control.protocol import Reloaded
from mcmt.errors import ControlError
from mcmt.monitor.server import MonitorServer

log = logging.getLogger(__name__)

# The spool's threads wait for the interpreter each time they come back from the disk, up to one interval while the loop
# is busy. 10,000 messages by smtp-source, 50 sessions, two runs each in turn: 2,840 and 3,350 a second with Python's
# 5 ms, 5,310 and 4,240 with this.
_SWITCH_INTERVAL = 0.0005
# Hardly anything of ours is in a cycle, so the collector finds next to nothing: it looks 28 times less often, and never
# at what was there from the start. 8,000 messages by smtp-source, runs in turn: 188, 186, 209, 189 us of CPU each with
# Python's threshold of 700, 174, 179, 189, 188 with this; memory is the same.
_COLLECT_AFTER = 20_000
_SECOND_THOUGHT = (
    1.0  # seconds; timeout(1) and some supervisors signal the process and its group, one right after the other
)
_OWN_FILES = 64  # spool, logs, control socket, and what Python holds open


class Runnable(Protocol):
    """An engine, in one process or several."""

    settings: Settings
    monitor: MonitorServer

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where SMTP is listened for."""

    @property
    def listening(self) -> Sequence[tuple[str, str, int]]:
        """What is spoken on which host and port."""

    async def start(self) -> None:
        """Open everything. Raises McmtError; then nothing is left open."""

    async def stop(self) -> None:
        """Drain and close."""

    async def reopen_logs(self) -> None:
        """Write to what the log files' paths name now."""

    async def reload(self, *, check: bool) -> Reloaded:
        """Read the configuration again and go on by it; what came of it. Raises ControlError."""


def prepare_process(settings: Settings) -> None:
    """What a process that delivers needs of the system and the interpreter."""
    raise_open_files(settings)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def raise_open_files(settings: Settings) -> None:
    """Allow this process as many open files as it may have, and say so when that is too few for the settings."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = _OWN_FILES + settings.intake.max_connections
    wanted += sum(len(server.tubes) for server in settings.beanstalkd)
    wanted += sum(domain.max_outbound_connections for domain in settings.domains.values())
    if wanted > hard:
        log.warning(
            "at most %d files may be open (RLIMIT_NOFILE), and the connections of the configuration can need %d: "
            "raise the limit (LimitNOFILE= of the unit), or lower max_connections or max_outbound_connections",
            hard,
            wanted,
        )


async def serve(app: Runnable, on_ready: Callable[[Runnable], None]) -> None:
    """Run until SIGTERM or SIGINT, then drain; another signal a second later ends at once.

    SIGHUP reopens the logs and reads the configuration again.
    """
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    asked_at = 0.0
    tasks: set[asyncio.Task[None]] = set()

    def stop() -> None:
        nonlocal asked_at
        if not asked_to_stop.is_set():
            asked_at = loop.time()
            asked_to_stop.set()
        elif loop.time() - asked_at >= _SECOND_THOUGHT:
            raise KeyboardInterrupt

    async def hang_up() -> None:
        await app.reopen_logs()
        with contextlib.suppress(ControlError):  # it was told
            await app.reload(check=False)

    def reopen() -> None:
        task = loop.create_task(hang_up(), name="hang up")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    prepare_process(app.settings)
    await app.start()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reopen)
    on_ready(app)
    systemd.notify("READY=1")
    await asked_to_stop.wait()
    systemd.notify("STOPPING=1")
    await app.stop()
