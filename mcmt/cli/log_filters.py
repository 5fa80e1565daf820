"""What ``mcmt log tail`` and ``grep`` share: which lines of which logs are wanted, and how a line is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from mcmt.cli.common import routed
from mcmt.cli.completing import complete_domain

if TYPE_CHECKING:
    from mcmt.config.settings import EventLogSettings, Settings
    from mcmt.eventlog.readback import LogReader
    from mcmt.eventlog.search import Wanted

Command = TypeVar("Command", bound=Callable[..., Any])

_OUTCOMES = ("received", "delivered", "transient", "permanent", "rejected", "route", "quarantined")


class Filters(NamedTuple):
    """What was asked for on the command line."""

    id: str
    domain: str
    outcomes: tuple[str, ...]
    token: str
    logger: str


def filter_options(command: Command) -> Command:
    """``--id``, ``--domain``, ``--outcome``, ``--token`` and ``--log``"""
    for option in reversed(
        (
            click.option("--id", "id_", metavar="ID", default="", help="A delivery, or by its batch id a message."),
            click.option(
                "--domain", metavar="DOMAIN", default="", help="Only this domain.", shell_complete=complete_domain
            ),
            click.option(
                "--outcome",
                "outcomes",
                type=click.Choice(_OUTCOMES),
                multiple=True,
                help="Only what ended so; may be given several times.",
            ),
            click.option("--token", metavar="TOKEN", default="", help="A device token, however the logs write it."),
            click.option(
                "--log", "logger", metavar="LOGGER", default="", help="This log. [default: the main log; --token: all]"
            ),
        )
    ):
        command = option(command)
    return command


def since_option(command: Command) -> Command:
    """``--since`` and ``--until``"""
    for name, text in (("--until", "Only until so long ago."), ("--since", "Only since so long ago: 15m, 1h, 7d.")):
        command = click.option(name, metavar="AGO", callback=_ago, help=text)(command)
    return command


def _ago(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:  # noqa: ARG001 - click's
    if value is None:
        return None
    from mcmt.options import parse_duration

    try:
        return time.time() - parse_duration(value, "s")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def filters_of(id_: str, domain: str, outcomes: tuple[str, ...], token: str, logger: str) -> Filters:
    """The options, as click gives them."""
    return Filters(id_, routed(domain) if domain else "", outcomes, token, logger)


def logs_of(settings: Settings, filters: Filters) -> list[EventLogSettings]:
    """The logs that are looked into. Raises UsageError for a name that is none, and for what a log cannot tell."""
    from mcmt.eventlog.tokens import written

    everything = [*settings.mainlog, *settings.channel_loggers, *settings.rejectlog, *settings.token_loggers]
    if filters.logger:
        named = [log for log in everything if filters.logger in (log.name, log.name.partition(".")[2])]
        if not named:
            raise click.UsageError(
                f"there is no log {filters.logger}; there are: {', '.join(each.name for each in everything)}"
            )
    elif filters.token:
        named = everything
    else:
        named = [settings.mainlog[0]]
    if filters.token:
        named = [log for log in named if has_tokens(log) and written(filters.token, log.token_log)]
        if not named:
            raise click.UsageError(
                "no log has device tokens: add %dt to its formats or format: json, and let token_log be other than none"
            )
    if filters.domain or filters.outcomes:
        blind = [log for log in named if not has_columns(settings, log)]
        if filters.logger and blind:
            raise click.UsageError(
                f"{blind[0].name} is text in a format of its own, which has no columns for --domain and --outcome: "
                "search the main log, or give it format: json"
            )
        named = [log for log in named if log not in blind]
    return named


def has_columns(settings: Settings, log: EventLogSettings) -> bool:
    """Whether domain and outcome can be read out of its lines."""
    return log in settings.mainlog or log.format == "json"


def has_tokens(log: EventLogSettings) -> bool:
    """Whether device tokens stand in its lines."""
    formats = log.delivery_format + log.tempfail_format + log.permfail_format
    return log.format == "json" or "%dt" in formats.replace("%%", "")


def wanted_of(filters: Filters, log: EventLogSettings, **more: Any) -> Wanted:
    """What is searched for in *log*."""
    from mcmt.eventlog.search import Wanted
    from mcmt.eventlog.tokens import written

    return Wanted(
        id=filters.id,
        domain=filters.domain,
        outcomes=frozenset(filters.outcomes),
        token=written(filters.token, log.token_log) if filters.token else frozenset(),
        **more,
    )


def reader_of(settings: Settings, log: EventLogSettings) -> LogReader:
    """The files of *log*."""
    from mcmt.eventlog.readback import LogReader

    others = (*settings.channel_loggers, *settings.mainlog, *settings.rejectlog, *settings.token_loggers)
    return LogReader(log.logfile, [other.logfile for other in others if other is not log])


def found_in(settings: Settings, filters: Filters, log: EventLogSettings, **more: Any) -> Iterator[list[bytes]]:
    """The lines that are wanted, the oldest first, in lists of many. Raises EventLogError."""
    from mcmt.eventlog.search import Search

    wanted = wanted_of(filters, log, **more)
    search = Search(wanted, main=has_columns(settings, log))
    for lines in reader_of(settings, log).in_order(wanted.since):
        if found := search.among(lines):
            yield list(found)


def shown(log: EventLogSettings, lines: list[bytes], *, as_json: bool) -> bytes:
    """Lines as they stand in the log, or an object for each."""
    if not as_json:
        return b"\n".join(lines)
    return b"\n".join([_object(log, line) for line in lines])


def _object(log: EventLogSettings, line: bytes) -> bytes:
    import msgspec

    from mcmt.eventlog.escape import escape_json
    from mcmt.eventlog.ledger import parse

    told: dict[str, object] = {"log": log.name}
    if (entry := parse(line)) is not None:
        told |= {name: value for name, value in msgspec.structs.asdict(entry).items() if value not in ("", None)}
    text = msgspec.json.encode({**told, "line": line.decode("utf-8", "backslashreplace")}).decode()
    return escape_json(text).encode()
