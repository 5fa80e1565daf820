"""``mcmt log grep``: the lines of something, in all files of the logs."""

from __future__ import annotations

from pathlib import Path

import click

from mcmt.cli.common import config_option, json_option, load_places
from mcmt.cli.log_filters import filter_options, filters_of, found_in, logs_of, shown, since_option


@click.command()
@click.argument("text", required=False, default="")
@filter_options
@since_option
@json_option
@config_option
@click.pass_context
def grep(
    context: click.Context,
    text: str,
    id_: str,
    domain: str,
    outcomes: tuple[str, ...],
    token: str,
    logger: str,
    since: float | None,
    until: float | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Write the lines that have TEXT in them and meet every option, the oldest first.

    All files of a log are read, rotated and compressed ones too; no engine needs to run. TEXT is no pattern. Exits with
    1 when there is no line.

    With --json: one object a line, with the line itself under "line".
    """
    settings = load_places(config)
    filters = filters_of(id_, domain, outcomes, token, logger)
    times = {name: value for name, value in (("since", since), ("until", until)) if value is not None}
    found = False
    for log in logs_of(settings, filters):
        for lines in found_in(settings, filters, log, text=text, **times):
            found = True
            click.echo(shown(log, lines, as_json=as_json))
    context.exit(0 if found else 1)
