"""Which deliveries a command means: the options by which they are selected, alike for all commands."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mcmt.cli.common import duration, routed
from mcmt.cli.completing import complete_domain

if TYPE_CHECKING:
    from mcmt.spool.port import Selection

Command = TypeVar("Command", bound=Callable[..., Any])
_is_id = re.compile(r"[0-9a-f]{24}(-[1-9]\d*)?").fullmatch
_MAX_IDS = 1000
"""Ids in one command: they go to the engine in one request."""


def selectors(command: Command) -> Command:
    """The options that select; ``selected`` makes of them what is meant."""
    for option in (
        click.option("--last-error", default="", metavar="TEXT", help="Only those whose last answer has TEXT in it."),
        click.option("--older-than", metavar="DURATION", help="Only what was received longer ago: 90s, 10m, 2h, 1d."),
        click.option("--token", default="", metavar="TOKEN", help="Only those to this device token."),
        click.option("--recipient", default="", metavar="ADDRESS", help="Only those to this recipient."),
        click.option("--domain", metavar="DOMAIN", help="Only those of this domain.", shell_complete=complete_domain),
    ):
        command = option(command)
    return command


def is_id(word: str) -> bool:
    """Whether *word* is a delivery's id or a batch id, and no domain."""
    return _is_id(word) is not None


def selected(
    ids: Sequence[str],
    domain: str | None,
    recipient: str = "",
    token: str = "",
    older_than: str | None = None,
    last_error: str = "",
    held: bool | None = None,
) -> Selection:
    """What is meant. Raises UsageError for words that mean nothing."""
    from mcmt.spool.port import Selection

    for word in ids:
        if not is_id(word):
            raise click.UsageError(f"expected the id of a delivery or of a message, as in the logs, got {word!r}")
    if len(ids) > _MAX_IDS:
        raise click.UsageError(f"{len(ids)} ids are too many for one command: name {_MAX_IDS} at a time")
    return Selection(
        ids=tuple(ids),
        domain=None if domain is None else routed(domain),
        recipient=recipient,
        token=token,
        received_before=None if older_than is None else time.time() - duration("--older-than", older_than),
        last_error=last_error,
        held=held,
    )
