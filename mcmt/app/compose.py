"""The engine that a configuration asks for: in one process, or in several."""

from __future__ import annotations

from collections.abc import Mapping

from mcmt.app.serve import Runnable
from mcmt.app.single import App
from mcmt.app.supervisor import Supervisor
from mcmt.channel.port import Channel
from mcmt.config.settings import Settings


def compose(settings: Settings, channels: Mapping[str, Channel], content: bytes) -> Runnable:
    """*content*: of the configuration file, as it was read for *settings*."""
    return App(settings, channels) if settings.workers == 1 else Supervisor(settings, content)
