"""The engine that a configuration asks for: in one process, or in several."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

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
        return App(settings, channels, bind=bind, begin_again=_execute_again)
    return Supervisor(settings, content, bind=bind)


def _execute_again() -> None:
    """At once, as if killed, with the command line that we had: the same process to whoever watches it."""
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line
