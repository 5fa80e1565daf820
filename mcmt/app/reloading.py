"""The configuration read again while the engine runs.

Rules: a configuration with a fault changes nothing; whatever there is to refuse is refused before the first part goes
on by the new one; one reload at a time, and what was begun is done to its end, whatever becomes of who asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from mcmt.app.parts import load_settings
from mcmt.app.serve import raise_open_files
from mcmt.channel.port import Channel
from mcmt.config.changes import Changes, changes_between, shown_stanza
from mcmt.config.load import Loaded
from mcmt.config.settings import Settings
from mcmt.control.protocol import Reloaded
from mcmt.errors import ConfigError, ControlError, McmtError

log = logging.getLogger(__name__)

TOLD = 50
"""Domains whose changes are told on standard error; the answer to ``mcmt reload`` has all of them."""

Swap = Callable[[Loaded, Settings, bool], Awaitable[None]]
"""Goes on by the settings, or if the last argument says so only sees whether it could. Raises McmtError: then nothing
has changed."""


class Reloading:
    """Of one engine, in one process or several."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[Reloaded]] = set()

    async def reload(self, running: Callable[[], Settings], swap: Swap, *, check: bool) -> Reloaded:
        """Read the configuration of *running* again, and have the engine go on by it. Raises ControlError."""
        task = asyncio.get_running_loop().create_task(self._reload(running, swap, check), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

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
    for domain in changes.domains[:TOLD]:
        options = f": {', '.join(domain.options)}" if domain.options else ""
        log.info("%s is %s%s", shown_stanza(domain.stanza), domain.change, options)
    if len(changes.domains) > TOLD:
        log.info("and %d more domains are new, changed or removed", len(changes.domains) - TOLD)
    for option in changes.options:
        log.info("%s is changed", option)
    for option in changes.restart:
        log.warning("%s has changed in %s: that holds after a restart", option, config)
    raise_open_files(changes.settings)
    log.info("%s was reloaded", config)
