"""``mcmt log``: the log files: what is in them, and where they end."""

from __future__ import annotations

from pathlib import Path

import click

from mcmt.cli import log_grep, log_summary, log_tail
from mcmt.cli.common import config_option, connect, json_option, load_places


@click.group()
def log() -> None:
    """Read the log files, and look after them."""


log.add_command(log_grep.grep)
log.add_command(log_summary.summary)
log.add_command(log_tail.tail)


@log.command()
@click.argument("logger", required=False)
@json_option
@config_option
@click.pass_context
def rotate(ctx: click.Context, logger: str | None, as_json: bool, config: Path | None) -> None:
    """Begin a new file for LOGGER or for every log, and write the old ones' new names.

    LOGGER is a name as in the configuration, with its stanza or without: apn_logger.apn_logger1 or apn_logger1; a
    reject log has .rejectlog after it. A log that is empty stays as it is. With compress: gzip a file gets .gz to its
    name some time later. Exits with 1 when a log could not be rotated.

    With --json: one object a line.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Rotate
    from mcmt.eventlog.rotation import Rotation

    failed = False
    with connect(settings) as client:
        for item in client.ask_raw(Rotate(logger)):
            rotation = msgspec.json.decode(item, type=Rotation)
            failed = failed or rotation.failed
            if as_json:
                click.echo(item)
            elif rotation.rotated is not None:
                click.echo(rotation.rotated)
            else:
                click.echo(f"{rotation.logfile}: not rotated: {rotation.reason}", err=True)
    ctx.exit(1 if failed else 0)
