"""``mcmt log tail``: the last lines of a log, and what comes."""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import config_option, connect, json_option, load_places
from mcmt.cli.log_filters import Filters, filter_options, filters_of, found_in, logs_of, shown

if TYPE_CHECKING:
    from mcmt.config.settings import EventLogSettings, Settings
    from mcmt.control.client import ControlClient
    from mcmt.control.protocol import Follow

_Line = tuple[str, bytes]
"""A logger's name, and what it wrote."""
_PATIENCE = 3600.0
"""Seconds without a line after which it waits anew."""


@click.command()
@click.option("-n", "--lines", "count", type=click.IntRange(min=0), default=10, show_default=True, help="So many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with every line that comes, until Ctrl-C.")
@filter_options
@json_option
@config_option
def tail(
    count: int,
    follow: bool,
    id_: str,
    domain: str,
    outcomes: tuple[str, ...],
    token: str,
    logger: str,
    as_json: bool,
    config: Path | None,
) -> None:
    """Write the last lines of a log that meet every option.

    With --follow the running engine tells every line as it is written, over rotations; nothing comes twice between the
    two. With --json: one object a line, with the line itself under "line".
    """
    settings = load_places(config)
    filters = filters_of(id_, domain, outcomes, token, logger)
    logs = logs_of(settings, filters)
    if not follow:
        _write_last(settings, filters, logs, count, as_json)
        return
    with connect(settings) as client:
        # First this, so that no line falls between what is read and what comes.
        client.follow(_request(filters))
        written = _write_last(settings, filters, logs, count, as_json)
        with contextlib.suppress(KeyboardInterrupt):  # how it is ended
            _follow(client, filters, logs, written, as_json)


def _write_last(
    settings: Settings, filters: Filters, logs: list[EventLogSettings], count: int, as_json: bool
) -> set[_Line]:
    """Write the last lines of each log, and return them with the log's name."""
    written = set[_Line]()
    for log in logs:
        last = deque[bytes](maxlen=max(count, 1))
        for lines in found_in(settings, filters, log):
            last.extend(lines)
        written |= {(log.name, line) for line in last}
        if last and count:
            click.echo(shown(log, list(last), as_json=as_json))
    return written


def _request(filters: Filters) -> Follow:
    from mcmt.control.protocol import Follow
    from mcmt.eventlog.ledger import OUTCOMES

    return Follow(
        domain=filters.domain,
        batch_id=filters.id.partition("-")[0],
        token=filters.token,
        kinds="".join(OUTCOMES[word] for word in filters.outcomes),
    )


def _follow(
    client: ControlClient,
    filters: Filters,
    logs: list[EventLogSettings],
    written: set[_Line],
    as_json: bool,
) -> None:
    by_name = {log.name: log for log in logs}
    delivery = filters.id if "-" in filters.id else ""
    while True:
        told = client.next_line(_PATIENCE)
        if told is None or told.logger not in by_name or (delivery and told.id != delivery):
            continue
        line = told.line.encode("utf-8", "backslashreplace")
        if (told.logger, line) in written:
            written.discard((told.logger, line))
            continue
        click.echo(shown(by_name[told.logger], [line], as_json=as_json))
