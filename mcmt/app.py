"""The composition root: the one place that knows every part, and puts them together.

Order of starting: spool, event log, engine, listener, control; stopping is the reverse, within
``drain_timeout``, so that nothing is taken that cannot be kept, and whatever was done is written before
the end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from mcmt import systemd
from mcmt.channel.plugins import available, load
from mcmt.channel.port import Channel
from mcmt.clock import Clock, SystemClock
from mcmt.config.load import Loaded
from mcmt.config.load import load as load_config
from mcmt.config.settings import Settings
from mcmt.control.server import ControlServer
from mcmt.engine.engine import Engine
from mcmt.eventlog.format import check_format
from mcmt.eventlog.loggers import build_loggers
from mcmt.eventlog.writer import EventLogWriter
from mcmt.intake.check import check_listen
from mcmt.intake.listener import SmtpListener
from mcmt.spool.sqlite import SqliteSpool
from mcmt.spool.state import StateStore

log = logging.getLogger(__name__)

# The spool's threads wait for the interpreter each time they come back from the disk, up to one interval while the loop
# is busy. 10,000 messages by smtp-source, 50 sessions, two runs each in turn: 2,840 and 3,350 a second with Python's
# 5 ms, 5,310 and 4,240 with this.
_SWITCH_INTERVAL = 0.0005
_SECOND_THOUGHT = (
    1.0  # seconds; timeout(1) and some supervisors signal the process and its group, one right after the other
)
_OWN_FILES = 64  # spool, logs, control socket, and what Python holds open


def load_channels(folders: Sequence[Path] = ()) -> Mapping[str, Channel]:
    """Every channel there is, by name."""
    return {name: load(name, folders) for name in available(folders)}


def load_settings(file: Path, channels: Mapping[str, Channel]) -> Loaded:
    """The settings in *file*. Raises ConfigError with every fault."""
    return load_config(file, channels, check_format=check_format, check_listen=check_listen)


class App:
    """One engine with everything around it, on one spool."""

    spool: SqliteSpool
    eventlog: EventLogWriter
    engine: Engine
    listener: SmtpListener

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self._channels = channels
        self._clock = clock or SystemClock()
        self._draw = draw
        self._closers: list[Callable[[], Awaitable[None]]] = []

    async def start(self) -> None:
        """Open everything, in order. Raises McmtError; then what was opened is closed again."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings, clock = self.settings, self._clock
        self.spool = await SqliteSpool.open(settings.spool.path, clock, settings.spool.min_free)
        self._closers.append(self.spool.close)
        state = StateStore.open(settings.spool.path)
        self._closers.append(lambda: asyncio.to_thread(state.close))
        self.eventlog = EventLogWriter(self.spool, build_loggers(settings), clock, log.error)
        await self.eventlog.start()
        self._closers.append(self.eventlog.stop)
        self.spool.on_events(self.eventlog.wake)
        self.engine = Engine(settings, self.spool, self._channels, state.scope, clock, self._draw)
        await self.engine.start()
        self._closers.append(lambda: self.engine.drain(settings.drain_timeout))
        self.listener = SmtpListener(settings, self._channels, self.spool, clock, secrets.randbits)
        await self.listener.start()
        self._closers.append(lambda: self.listener.drain(settings.drain_timeout))
        control = ControlServer(self.settings, self.spool, self.engine, self.listener, self.eventlog, clock)
        await control.start()
        self._closers.append(control.close)

    async def stop(self) -> None:
        """Stop taking, drain within ``drain_timeout``, write the rest, let go of the spool."""
        while self._closers:
            close = self._closers.pop()
            try:
                await close()
            except Exception:
                # The others must not be left open for its sake: the spool is the last.
                log.exception("something could not be closed in good order")


def raise_open_files(settings: Settings) -> None:
    """Allow this process as many open files as it may have, and say so when that is too few for the settings."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = _OWN_FILES + settings.intake.max_connections
    wanted += sum(domain.max_outbound_connections for domain in settings.domains.values())
    if wanted > hard:
        log.warning(
            "at most %d files may be open (RLIMIT_NOFILE), and the connections of the configuration can need %d: "
            "raise the limit (LimitNOFILE= of the unit), or lower max_connections or max_outbound_connections",
            hard,
            wanted,
        )


async def serve(app: App, on_ready: Callable[[App], None]) -> None:
    """Run until SIGTERM or SIGINT, then drain; another signal a second later ends at once. SIGHUP reopens the logs."""
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

    def reopen() -> None:
        task = loop.create_task(app.eventlog.reopen(), name="reopen logs")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    raise_open_files(app.settings)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    await app.start()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reopen)
    on_ready(app)
    systemd.notify("READY=1")
    await asked_to_stop.wait()
    systemd.notify("STOPPING=1")
    await app.stop()
