"""What the commands share: options, finding the configuration and the engine, and showing times."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mcmt.config.settings import Settings
    from mcmt.control.client import ControlClient
    from mcmt.control.rule_status import RuleStatus

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def config_option(command: Command) -> Command:
    """``--config FILE``"""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The configuration. [default: $MCMT_CONFIG, else config/mcmt.yaml, else /etc/mcmt/mcmt.yaml]",
    )(command)


def json_option(command: Command) -> Command:
    """``--json``"""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")(command)


def plain_option(command: Command) -> Command:
    """``--plain``; also where standard output is no terminal."""

    def choose(_context: click.Context, _parameter: click.Parameter, given: bool) -> bool:
        return given or not sys.stdout.isatty()

    return click.option(
        "--plain", is_flag=True, callback=choose, help="Columns parted by tabs, as into a pipe, without a heading."
    )(command)


def duration(option: str, given: str) -> float:
    """Seconds of what was given: ``90``, ``10m``, ``2h``. Raises UsageError."""
    from mcmt.options import parse_duration

    try:
        seconds = parse_duration(given, "s")
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
    if seconds <= 0:
        raise click.UsageError(f"{option}: expected a duration such as 90s, 10m, 2h or 1d, got {given!r}")
    return seconds


def routed(domain: str) -> str:
    """The name by which a domain on the command line is routed. Raises UsageError for what cannot be one."""
    from mcmt.message.address import routing_name

    name = routing_name(domain)
    if not name or any(character.isspace() or character in "@<>" for character in name):
        raise click.UsageError(f"expected a domain such as apn.example.com, got {domain!r}")
    return name


def find_file(config: Path | None) -> Path:
    """The configuration file. Raises ConfigError when there is none."""
    from mcmt.config.load import find_config

    return find_config(config, os.environ)


def load_places(config: Path | None) -> Settings:
    """The settings, for a command that only wants to know where things are: certificates stay closed.

    Raises ConfigError.
    """
    from mcmt.channel.plugins import available, load
    from mcmt.config.load import load as load_config

    channels = {name: load(name) for name in available()}
    return load_config(find_file(config), channels, open_files=False, full_hostname=lambda: "localhost").settings


def connect(settings: Settings, patience: float | None = None) -> ControlClient:
    """The running engine; *patience*: seconds that it may be silent. Raises ControlError when there is none."""
    from mcmt.control.client import PATIENCE, ControlClient

    return ControlClient(settings.control_socket, patience or PATIENCE)


def address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_force(rule: RuleStatus) -> str:
    """A shaping rule that is in force, since when, until when, and what it does."""
    ends = "it is resumed" if rule.until is None else _moment(rule.until)
    return f"{rule.rule} since {_moment(rule.since)}, until {ends}: {rule.effect}"


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time).astimezone().isoformat(" ", "seconds")


def span(seconds: float | None) -> str:
    """A duration to read: its two largest units, as in ``3h 12m``; ``-`` for None."""
    return "-" if seconds is None else _span(max(0, round(seconds)))


@lru_cache(256)  # the rows of a listing end at few different times: half of what a row cost
def _span(left: int) -> str:
    shown: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            shown.append(f"{count}{unit}")
        elif shown:
            break
    return " ".join(shown[:2]) or "0s"


def printable(text: str) -> str:
    """*text* with what would move the terminal's cursor escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
