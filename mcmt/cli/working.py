"""What the commands have in common that do something to selected deliveries: count, ask, do it by the page, tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from mcmt.cli.common import connect, printable

if TYPE_CHECKING:
    from mcmt.config.settings import Settings
    from mcmt.control.client import ControlClient
    from mcmt.control.protocol import Progress
    from mcmt.engine.hands import Verb
    from mcmt.spool.port import Selection

Command = TypeVar("Command", bound=Callable[..., Any])
_ROW = "{:<40} {:>12} {:>12} {:>12}"
_PATIENCE = 0.5
"""Seconds after which a count shows how far it is."""
_DONE = {
    "retry": "due now",
    "hold": "held",
    "release": "released",
    "bounce": "ended, reports to the senders are owed",
    "delete": "ended, nobody is told",
    "reroute": "sent another way",
}


class _Count(NamedTuple):
    """What is selected."""

    domains: dict[str, list[int]]
    """Deliveries, messages, held ones."""
    through: dict[int, int]
    deliveries: int
    messages: int


def working(command: Command) -> Command:
    """The options of a command that does something."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask. Without a terminal nothing is asked either."),
        click.option("--dry-run", is_flag=True, help="Count what is selected, and do nothing."),
        click.option("--all", "everything", is_flag=True, help="Every delivery in the spool, if nothing else is said."),
    ):
        command = option(command)
    return command


def work(
    settings: Settings,
    verb: Verb,
    selection: Selection,
    *,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    reason: str = "",
    to: str = "",
) -> None:
    """Count what is selected, ask, and do it. Raises ControlError, UsageError, Abort."""
    import msgspec

    from mcmt.control.protocol import Order, Progress
    from mcmt.spool.port import Selection

    if not everything and selection == Selection(held=selection.held):
        raise click.UsageError("name deliveries by id, or select them with an option, or give --all")
    with connect(settings) as client:
        count = _count(client, selection)
        told: dict[str, Any] = {
            "deliveries": count.deliveries,
            "messages": count.messages,
            "domains": {name: dict(zip(_KEYS, each, strict=True)) for name, each in count.domains.items()},
        }
        if not as_json:
            _show(count)
        if dry_run or not count.deliveries:
            if as_json:
                click.echo(msgspec.json.encode(told))
            return
        if not (yes or as_json) and sys.stdin.isatty() and sys.stdout.isatty():
            click.confirm(f"{verb.capitalize()} {_of(count)}?", abort=True)
        order = Order(
            verb=verb, selection=selection, everything=everything, reason=reason, to=to, through=count.through
        )
        done = dict.fromkeys(Progress.__struct_fields__, 0)
        interrupted = False
        try:
            with _bar(count.deliveries) as update:
                for page in client.ask(order, Progress):
                    _add(done, page)
                    update(page.done + page.busy + page.ended + page.unfit)
        except KeyboardInterrupt:
            interrupted = True
    if as_json:
        click.echo(msgspec.json.encode({**told, **done, "interrupted": interrupted}))
    else:
        _tell(verb, done, interrupted)
    if interrupted:
        raise click.exceptions.Exit(1)


_KEYS = ("deliveries", "messages", "held")


def _count(client: ControlClient, selection: Selection) -> _Count:
    from mcmt.control.protocol import Count, Counts

    begun, watched = time.monotonic(), sys.stderr.isatty()
    domains: dict[str, list[int]] = {}
    through: dict[int, int] = {}
    for item in client.ask(Count(selection), Counts):
        through[item.shard] = item.through
        sums = domains.setdefault(item.domain, [0, 0, 0])
        for at, number in enumerate((item.deliveries, item.messages, item.held)):
            sums[at] += number
        if watched and time.monotonic() - begun > _PATIENCE:
            click.echo(f"\rcounted: {sum(each[0] for each in domains.values())}", err=True, nl=False)
    if watched:
        click.echo("\r\x1b[K", err=True, nl=False)
    deliveries, messages = (sum(each[at] for each in domains.values()) for at in (0, 1))
    return _Count(dict(sorted(domains.items())), through, deliveries, messages)


def _show(count: _Count) -> None:
    if not count.deliveries:
        click.echo("nothing is selected")
        return
    click.echo(_ROW.format("DOMAIN", "DELIVERIES", "MESSAGES", "HELD"))
    for name, each in count.domains.items():
        click.echo(_ROW.format(printable(name), *each))
    if len(count.domains) > 1:
        click.echo(_ROW.format("together", *map(sum, zip(*count.domains.values(), strict=True))))


def _of(count: _Count) -> str:
    deliveries = "1 delivery" if count.deliveries == 1 else f"{count.deliveries} deliveries"
    return f"{deliveries} of {count.messages} {'message' if count.messages == 1 else 'messages'}"


@contextmanager
def _bar(length: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, file=sys.stderr, show_pos=True) as bar:
        yield bar.update


def _add(done: dict[str, int], page: Progress) -> None:
    for name in done:
        done[name] += getattr(page, name)


def _tell(verb: Verb, done: dict[str, int], interrupted: bool) -> None:
    click.echo(f"{done['done']} {_DONE[verb]}")
    for name, text in (
        ("busy", "left alone: on the wire; their answers decide. What comes back can be selected again"),
        ("ended", "had ended or changed before their turn came"),
        ("unfit", "left alone: of another channel, or of that domain already"),
    ):
        if done[name]:
            click.echo(f"{done[name]} {text}")
    if interrupted:
        click.echo("interrupted: the rest is as it was", err=True)
