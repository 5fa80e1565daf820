"""``mcmt serve``: the engine, in the foreground."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import address, config_option, find_file
from mcmt.cli.diagnostics import set_up_diagnostics

if TYPE_CHECKING:
    from mcmt.app.serve import Runnable
    from mcmt.intake.sockets import Bind


@click.command()
@config_option
def serve(config: Path | None) -> None:
    """Run the engine until Ctrl-C or SIGTERM.

    It stays in the foreground and tells systemd when it is ready. When asked to stop, it takes no more mail and waits
    up to drain_timeout for the answers to what is on the wire; asked a second time, it ends at once. Nothing is lost
    either way. SIGHUP opens the log files anew and does what mcmt reload does. Diagnostics go to standard error.
    Started as root with run_as set, it binds its addresses and is that user from then on.
    """
    set_up_diagnostics(os.environ)
    import uvloop

    from mcmt import app

    channels = app.load_channels()
    file = find_file(config)
    loaded = app.load_settings(file, channels)
    bind: Bind = app.bind_all
    if (run_as := app.wanted(loaded.settings)) is not None:
        bind = app.bind_as_root(loaded.settings)
        app.become(run_as)
        # Root can read everything: now it is said what that user cannot.
        loaded = app.load_settings(file, channels, loaded.content)
    for warning in loaded.warnings:
        logging.getLogger(__name__).warning("%s", warning)
    settings, content = loaded.settings, loaded.content
    del loaded  # the places of all options: some 4 KB a domain
    uvloop.run(app.serve(app.compose(settings, channels, content, bind), _announce))
    app.leave()


def _announce(app: Runnable) -> None:
    settings = app.settings
    for word, host, port in app.listening:
        click.echo(f"{word} on {address(host, port)}")
    click.echo(f"spool {settings.spool.path}, control socket {settings.control_socket}")
    for host, port in app.monitor.addresses:
        click.echo(f"metrics on http://{address(host, port)}/metrics")
    for logger in settings.loggers:
        click.echo(f"log {logger.logfile}")
