"""The engine that a configuration asks for: in one process, or in several."""

from __future__ import annotations

from collections.abc import Mapping

from mcmt.app.begin_again import end, execute_again
from mcmt.app.serve import Runnable
from mcmt.app.single import App
from mcmt.app.supervisor import Supervisor
from mcmt.channel.port import Channel
from mcmt.config.settings import Settings
from mcmt.config.sources import Content
from mcmt.intake.sockets import Bind, bind_all


def compose(settings: Settings, channels: Mapping[str, Channel], content: Content, bind: Bind = bind_all) -> Runnable:
    """*content*: what was read for *settings*. *bind*: gives the sockets listened on."""
    if settings.workers == 1:
        # Who is not root any more could not bind again what only root may bind: that is for systemd to start.
        begin_again = execute_again if settings.run_as is None else end
        return App(settings, channels, content, bind=bind, begin_again=begin_again)
    return Supervisor(settings, channels, content, bind=bind)
