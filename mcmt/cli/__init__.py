"""The command line: one file a command.

Rules: a command is imported when it is called, and imports what is large inside its function, so that none pays for the
others. Exit codes: 0 done, 1 failed, 2 the configuration or the command line is wrong. What was asked for goes to
standard output, everything else to standard error.
"""

from __future__ import annotations

import importlib

import click

import mcmt
from mcmt.errors import ConfigError, McmtError

_COMMANDS = {
    "audit": "mcmt.cli.audit:audit",
    "check": "mcmt.cli.check:check",
    "completion": "mcmt.cli.completion:completion",
    "config": "mcmt.cli.config:config",
    "demo": "mcmt.cli.demo:demo",
    "domain": "mcmt.cli.domain:domain",
    "import-momentum": "mcmt.cli.import_momentum:import_momentum",
    "log": "mcmt.cli.log:log",
    "man": "mcmt.cli.man:man",
    "apikey": "mcmt.cli.apikey:apikey",
    "passwd": "mcmt.cli.passwd:passwd",
    "pyapns": "mcmt.cli.pyapns:pyapns",
    "queue": "mcmt.cli.queue:queue",
    "registration": "mcmt.cli.registration:registration",
    "reload": "mcmt.cli.reload:reload",
    "send": "mcmt.cli.send:send",
    "serve": "mcmt.cli.serve:serve",
    "simulate": "mcmt.cli.simulate:simulate",
    "status": "mcmt.cli.status:status",
    "tokens": "mcmt.cli.tokens:tokens",
    "top": "mcmt.cli.top:top",
    "trace": "mcmt.cli.trace:trace",
    "worker": "mcmt.cli.worker:worker",
}
"""Where each command is: module and name."""


class Commands(click.Group):
    """The commands, each imported when it is asked for; errors become exit codes here."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Names, as ``--help`` shows them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """The command of that name, imported."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what mcmt raises on purpose is told without a traceback."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for fault in error.faults:
                click.echo(fault, err=True)
            ctx.exit(2)
        except McmtError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(mcmt.__version__, prog_name="mcmt")
def main() -> None:
    """A message delivery engine: MCMT mail in over SMTP, push out, every outcome a line in a log.

    Start with "mcmt demo", which needs no configuration. The other commands read --config FILE, else $MCMT_CONFIG, else
    config/mcmt.yaml, else /etc/mcmt/mcmt.yaml, and find the running engine by it.
    """
