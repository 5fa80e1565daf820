"""``mcmt queue``: what is in the spool of the running engine."""

from __future__ import annotations

import time
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, printable, routed, span

if TYPE_CHECKING:
    from mcmt.spool.port import Entry

_ROW = "{:<28} {:<24} {:<14} {:>8} {:>8} {:>5}  {}"
_PAGE = 200
"""Rows written at a time."""
_SHOWN = 5
"""Characters of a device token at each end in a listing."""


@click.group()
def queue() -> None:
    """Look at deliveries that have not ended, and try them now."""


@queue.command("list")
@click.argument("domain", required=False)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many. [default: all]")
@json_option
@config_option
def list_(domain: str | None, limit: int | None, as_json: bool, config: Path | None) -> None:
    """List the deliveries in the spool, of DOMAIN or of all, the oldest first.

    It is written as it is read, however long. With --json: one object a line; times are seconds since the epoch, a due
    time of 0 is now.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Queue
    from mcmt.spool.port import Entry

    decode = msgspec.json.Decoder(Entry).decode
    request = Queue(None if domain is None else routed(domain), limit)
    with connect(settings) as client:
        items = client.ask_raw(request)
        if not as_json and (first := next(items, None)) is not None:
            click.echo(_ROW.format("ID", "DOMAIN", "TOKEN", "DUE IN", "ENDS IN", "TRIES", "LAST ANSWER"))
            items = chain((first,), items)
        # A word to the terminal costs 2.5 us: 100,000 rows took 1.1 s of CPU when each was one, and take 0.7.
        while page := list(islice(items, _PAGE)):
            now = time.time()
            click.echo(b"\n".join(page) if as_json else "\n".join([_row(decode(item), now) for item in page]))


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


@queue.command()
@click.argument("domain")
@json_option
@config_option
def retry(domain: str, as_json: bool, config: Path | None) -> None:
    """Try now what waits in DOMAIN's queue, each delivery once, and the route if it is backed off."""
    settings = load_places(config)
    from mcmt.cli.domain import act
    from mcmt.control.protocol import Retry

    act(settings, Retry(routed(domain)), as_json=as_json)


def _row(entry: Entry, now: float) -> str:
    token = entry.token if len(entry.token) <= 14 else f"{entry.token[:_SHOWN]}...{entry.token[-_SHOWN:]}"
    return _ROW.format(
        entry.id,
        entry.domain,
        printable(token),
        _due(entry, now),
        span(entry.expires - now),
        entry.attempts,
        printable(entry.last) or "-",
    )


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
        ("attempts", str(entry.attempts)),
        ("last answer", entry.last or "-"),
        ("size", f"{entry.size} bytes"),
    )
    for name, value in rows:
        click.echo(f"{name:<12} {printable(value)}")


def _due(entry: Entry, now: float) -> str:
    if entry.active:
        return "active"
    return "now" if entry.due <= now else span(entry.due - now)


def _stamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
