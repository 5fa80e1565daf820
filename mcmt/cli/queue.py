"""``mcmt queue``: what is in the spool of the running engine, and what is done to it by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, plain_option, printable, routed, span
from mcmt.cli.completing import complete_domain
from mcmt.cli.selecting import is_id, selected, selectors
from mcmt.cli.working import work, working

if TYPE_CHECKING:
    from mcmt.engine.hands import Verb
    from mcmt.spool.port import Entry

Command = TypeVar("Command", bound=Callable[..., Any])
_ROW = "{:<28} {:<24} {:<14} {:>8} {:>8} {:>5}  {}"
_PAGE = 200
"""Rows written at a time."""
_SHOWN = 5
"""Characters of a device token at each end in a listing."""


@click.group()
def queue() -> None:
    """Look at deliveries that have not ended; try, hold, end or reroute them.

    What is meant is named by ID, a delivery's id or a batch id as in the logs, or selected by options; with several of
    them, what all of them hold for.
    """


@queue.command("list")
@click.argument("what", nargs=-1, metavar="[DOMAIN|ID...]", shell_complete=complete_domain)
@selectors
@click.option("--held", is_flag=True, help="Only those that are held.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many. [default: all]")
@json_option
@plain_option
@config_option
def list_(
    what: tuple[str, ...],
    held: bool,
    limit: int | None,
    as_json: bool,
    plain: bool,
    config: Path | None,
    domain: str | None,
    **chosen: Any,
) -> None:
    """List the deliveries in the spool, of DOMAIN or of all, the oldest first.

    It is written as it is read, however long. With --json: one object a line; times are seconds since the epoch, a due
    time of 0 is now. With --plain, or into a pipe: columns parted by tabs, without a heading.
    """
    domain, ids = _meant(what, domain)
    selection = selected(ids, domain, held=held or None, **chosen)
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Queue
    from mcmt.spool.port import Entry

    decode = msgspec.json.Decoder(Entry).decode
    with connect(settings) as client:
        items = client.ask_raw(Queue(None, limit, selection))
        if not (as_json or plain) and (first := next(items, None)) is not None:
            click.echo(_ROW.format("ID", "DOMAIN", "TOKEN", "DUE IN", "ENDS IN", "TRIES", "LAST ANSWER"))
            items = chain((first,), items)
        # A word to the terminal costs 2.5 us: 100,000 rows took 1.1 s of CPU when each was one, and take 0.7.
        while page := list(islice(items, _PAGE)):
            now = time.time()
            if as_json:
                click.echo(b"\n".join(page))
            else:
                click.echo("\n".join([(_columns if plain else _row)(decode(item), now) for item in page]))


@queue.command()
@click.argument("id_", metavar="ID")
@json_option
@config_option
def show(id_: str, as_json: bool, config: Path | None) -> None:
    """Show a delivery, or every delivery of a message: ID is a delivery's id or a batch id, as in the logs.

    With --json: one object a line.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Show
    from mcmt.spool.port import Entry

    with connect(settings) as client:
        for number, item in enumerate(client.ask_raw(Show(id_))):
            if as_json:
                click.echo(item)
                continue
            if number:
                click.echo()
            _write_entry(msgspec.json.decode(item, type=Entry), time.time())


def _acting(name: str) -> Callable[[Command], click.Command]:
    """A command that does something to what is selected."""

    def make(command: Command) -> click.Command:
        for option in (config_option, json_option, working, selectors):
            command = option(command)
        command = click.argument("ids", nargs=-1, metavar="[ID]...")(command)
        return queue.command(name)(command)

    return make


_reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="Why; it stands in the log line and in the report."
)


def _do(
    verb: Verb,
    ids: tuple[str, ...],
    options: dict[str, Any],
    held: bool | None = None,
    reason: str = "",
    to: str = "",
) -> None:
    of_work = {name: options.pop(name) for name in ("everything", "dry_run", "yes", "as_json")}
    config = options.pop("config")
    selection = selected(ids, held=held, **options)
    work(load_places(config), verb, selection, **of_work, reason=reason, to=to)


@_acting("retry")
def retry(ids: tuple[str, ...], **options: Any) -> None:
    """Try now what waits for its next attempt: of a DOMAIN, or what is selected.

    A DOMAIN alone is the cheap way: no delivery is looked at, each is tried once, and the route too if it is backed
    off. What is held stays held.
    """
    domain, ids = _meant(ids, options["domain"])
    options["domain"] = domain
    narrowed = any(options[name] for name in ("recipient", "token", "older_than", "last_error", "dry_run"))
    if domain is None or ids or narrowed:
        _do("retry", ids, options, held=False)
        return
    settings = load_places(options["config"])
    from mcmt.cli.domain import act
    from mcmt.control.protocol import Retry

    act(settings, Retry(routed(domain)), as_json=options["as_json"])


@_acting("hold")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the main log.")
def hold(ids: tuple[str, ...], reason: str, **options: Any) -> None:
    """Keep what is selected, and do not send it until it is released, also over restarts.

    It still expires.
    """
    _do("hold", ids, options, held=False, reason=reason)


@_acting("release")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the main log.")
def release(ids: tuple[str, ...], reason: str, **options: Any) -> None:
    """Send again what is held, of what is selected; it is as due as it was."""
    _do("release", ids, options, held=True, reason=reason)


@_acting("bounce")
@_reason_option
def bounce(ids: tuple[str, ...], reason: str, **options: Any) -> None:
    """End what is selected as failed, and tell the senders.

    Each has its final line, 554 "5.7.0 [internal] manually failed: TEXT". What is on the wire is left alone.
    """
    _do("bounce", ids, options, reason=reason)


@_acting("delete")
@_reason_option
def delete(ids: tuple[str, ...], reason: str, **options: Any) -> None:
    """End what is selected as failed, and tell nobody.

    Each has its final line, as with bounce; no report is made. What is on the wire is left alone.
    """
    _do("delete", ids, options, reason=reason)


@_acting("reroute")
@click.option(
    "--to",
    required=True,
    metavar="DOMAIN",
    help="The domain whose stanza they go through from now on.",
    shell_complete=complete_domain,
)
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the main log.")
def reroute(ids: tuple[str, ...], to: str, reason: str, **options: Any) -> None:
    """Send what is selected through another domain's stanza, of the same channel.

    Recipient, token and attempts stay; log lines say the new domain. What is held stays held.
    """
    _do("reroute", ids, options, reason=reason, to=routed(to))


def _meant(what: tuple[str, ...], domain: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The domain among the words, if there is one, and the ids."""
    domains = [word for word in what if not is_id(word)]
    if len(domains) + (domain is not None) > 1:
        raise click.UsageError(f"name one domain, and ids: {domains[-1]!r} is no id")
    return (routed(domains[0]) if domains else domain), tuple(word for word in what if is_id(word))


def _row(entry: Entry, now: float) -> str:
    token = entry.token if len(entry.token) <= 14 else f"{entry.token[:_SHOWN]}...{entry.token[-_SHOWN:]}"
    return _ROW.format(
        entry.id,
        printable(entry.domain),
        printable(token),
        _due(entry, now),
        span(entry.expires - now),
        entry.attempts,
        printable(entry.last) or "-",
    )


def _columns(entry: Entry, now: float) -> str:
    """One line for other programs."""
    state = "held" if entry.held else "active" if entry.active else "due" if entry.due <= now else "waiting"
    times = (f"{moment:.0f}" for moment in (entry.received, entry.due, entry.expires))
    text = (entry.id, entry.domain, entry.recipient, entry.token, state, *times, str(entry.attempts), entry.last)
    return "\t".join(map(printable, text))


def _write_entry(entry: Entry, now: float) -> None:
    rows = (
        ("delivery", entry.id),
        ("domain", entry.domain),
        ("recipient", entry.recipient),
        ("token", entry.token),
        ("sender", entry.sender or "<>"),
        ("received", f"{_stamp(entry.received)} ({span(now - entry.received)} ago)"),
        ("due", _due(entry, now)),
        ("expires", f"{_stamp(entry.expires)} (in {span(entry.expires - now)})"),
        ("priority", entry.priority),
        ("attempts", str(entry.attempts)),
        ("last answer", entry.last or "-"),
        ("size", f"{entry.size} bytes"),
    )
    for name, value in rows:
        click.echo(f"{name:<12} {printable(value)}")


def _due(entry: Entry, now: float) -> str:
    if entry.held:
        return "held"
    if entry.active:
        return "active"
    return "now" if entry.due <= now else span(entry.due - now)


def _stamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
