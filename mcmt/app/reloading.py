"""The configuration read again while the engine runs.

Rules: a configuration with a fault changes nothing; whatever there is to refuse is refused before the first part goes
on by the new one; one reload at a time, and what was begun is done to its end, whatever becomes of who asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from mcmt.app.parts import load_settings
from mcmt.app.serve import raise_open_files
from mcmt.channel.port import Channel
from mcmt.config.changes import Changes, changes_between, shown_stanza
from mcmt.config.load import Loaded
from mcmt.config.settings import Settings
from mcmt.config.sources import Content
from mcmt.control.protocol import Reloaded
from mcmt.errors import ConfigError, ControlError, McmtError

log = logging.getLogger(__name__)

T = TypeVar("T")

TOLD = 50
"""Domains whose changes are told on standard error; the answer to ``mcmt reload`` has all of them."""

Swap = Callable[[Loaded, Settings, bool], Awaitable[None]]
"""Goes on by the settings, or if the last argument says so only sees whether it could. Raises McmtError: then nothing
has changed."""


class Alteration(Protocol):
    """A change that the engine makes in its own configuration, in files of its own. Each may raise McmtError, and
    nothing has changed then."""

    def content(self, settings: Settings, running: Content) -> Content | None:
        """What the configuration is read from with it; None: it is so already. Blocking."""

    def check(self, settings: Settings) -> None:
        """Whether an engine would start with it."""

    def keep(self) -> None:
        """Have it hold after a restart. Blocking."""

    def undo(self) -> None:
        """Have it not hold after a restart. Blocking; raises nothing."""

    def done(self) -> None:
        """The engine goes on by it. Blocking; raises nothing."""


class Reloading:
    """Of one engine, in one process or several."""

    def __init__(self, channels: Mapping[str, Channel], content: Content) -> None:
        """*content*: what the configuration was read from that the engine begins with."""
        self._channels = channels
        self._content = content
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def reload(self, running: Callable[[], Settings], swap: Swap, *, check: bool) -> Reloaded:
        """Read the configuration of *running* again, and have the engine go on by it. Raises ControlError."""
        return await self._to_its_end(self._reload(running, swap, check))

    async def alter(self, running: Callable[[], Settings], swap: Swap, alteration: Alteration) -> None:
        """Have the engine go on by what it runs by, and *alteration*; what stands in the configuration's files by now
        is not looked at. Raises McmtError."""
        await self._to_its_end(self._alter(running, swap, alteration))

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(work, name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _alter(self, running: Callable[[], Settings], swap: Swap, alteration: Alteration) -> None:
        async with self._one:
            settings = running()
            content = await asyncio.to_thread(alteration.content, settings, self._content)
            if content is None:
                return
            try:
                # Of other domains' certificates nobody asks here: they are as they were.
                loaded = await asyncio.to_thread(
                    load_settings, settings.file, self._channels, content, open_files=False
                )
                await asyncio.to_thread(alteration.check, loaded.settings)
                changes = changes_between(settings, loaded.settings)
                await asyncio.to_thread(alteration.keep)
                await swap(loaded, changes.settings, False)
            except BaseException as error:
                await asyncio.to_thread(alteration.undo)
                if isinstance(error, ConfigError):
                    raise ControlError(f"with it the configuration has faults: {error}") from error
                raise
            self._content = content
            await asyncio.to_thread(alteration.done)
            _tell_domains(changes)
            raise_open_files(changes.settings)

    async def _reload(self, running: Callable[[], Settings], swap: Swap, check: bool) -> Reloaded:
        async with self._one:
            settings = running()
            config = str(settings.file)
            try:
                # On a thread: thousands of domains take seconds.
                loaded = await asyncio.to_thread(load_settings, settings.file, self._channels)
                changes = changes_between(settings, loaded.settings)
                await swap(loaded, changes.settings, check)
            except ConfigError as error:
                if not check:
                    for fault in error.faults:
                        log.error("%s", fault)
                    log.error("%s has faults: it was not reloaded, and nothing was changed", config)
                return Reloaded(config=config, check=check, faults=tuple(str(fault) for fault in error.faults))
            except McmtError as error:
                if not check:
                    log.error("%s was not reloaded, and nothing was changed: %s", config, error)
                raise ControlError(f"{config} was not reloaded, and nothing was changed: {error}") from error
            if not check:
                self._content = loaded.content
                _tell(config, loaded, changes)
            return Reloaded(
                config=config,
                check=check,
                warnings=tuple(str(warning) for warning in loaded.warnings),
                domains=changes.domains,
                options=changes.options,
                restart=changes.restart,
            )


def _tell(config: str, loaded: Loaded, changes: Changes) -> None:
    for warning in loaded.warnings:
        log.warning("%s", warning)
    _tell_domains(changes)
    for option in changes.options:
        log.info("%s is changed", option)
    for option in changes.restart:
        log.warning("%s has changed in %s: that holds after a restart", option, config)
    raise_open_files(changes.settings)
    log.info("%s was reloaded", config)


def _tell_domains(changes: Changes) -> None:
    for domain in changes.domains[:TOLD]:
        options = f": {', '.join(domain.options)}" if domain.options else ""
        log.info("%s is %s%s", shown_stanza(domain.stanza), domain.change, options)
    if len(changes.domains) > TOLD:
        log.info("and %d more domains are new, changed or removed", len(changes.domains) - TOLD)
