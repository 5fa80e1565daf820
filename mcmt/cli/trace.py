"""``mcmt trace``: what is said on the connections of one domain, live."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import config_option, connect, duration, json_option, load_places, printable, routed
from mcmt.cli.completing import complete_domain

if TYPE_CHECKING:
    from mcmt.control.client import ControlClient
    from mcmt.wire.trace import Line

_PATIENCE = 3600.0
_ARROWS = {"sent": "->", "received": "<-", "event": "--"}
_INDENT = " " * 22


@click.command()
@click.argument("name", metavar="DOMAIN", shell_complete=complete_domain)
@click.option("--bodies", is_flag=True, help="Show payloads too, up to 4096 octets of each.")
@click.option("--tokens", is_flag=True, help="Show device tokens whole.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after so many lines.")
@click.option("--for", "span_", metavar="DURATION", help="End after so long: 30s, 10m.")
@json_option
@config_option
def trace(
    name: str, bodies: bool, tokens: bool, limit: int | None, span_: str | None, as_json: bool, config: Path | None
) -> None:
    """Show what is said with the routes of DOMAIN, and by clients that have mail for it, until Ctrl-C.

    -> is what the engine says, <- what it hears, -- what happens to a connection. In front of them stand the time (UTC)
    and the connection: the number of its worker, a dot, and its own. Provider tokens and passwords are never shown;
    device tokens are cut, payloads are left out. Of an SMTP session everything is shown from the RCPT on that names the
    domain; a request over HTTP when it is answered. What comes faster than it is read is left out, and counted.
    With --json: one object a line.
    """
    seconds = None if span_ is None else duration("--for", span_)
    settings = load_places(config)
    from mcmt.control.protocol import Trace

    with connect(settings) as client:
        client.follow(Trace(routed(name), bodies, tokens))
        deadline = None if seconds is None else time.monotonic() + seconds
        with contextlib.suppress(KeyboardInterrupt):  # how it is ended
            _show(client, limit, deadline, as_json=as_json)


def _show(client: ControlClient, limit: int | None, deadline: float | None, *, as_json: bool) -> None:
    import msgspec

    from mcmt.wire.trace import Line

    decode = msgspec.json.Decoder(Line).decode
    shown = 0
    while limit is None or shown < limit:
        left = _PATIENCE if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return
        item = client.next_raw(left)
        if item is not None:
            click.echo(item if as_json else text_of(decode(item)))
            shown += 1


def text_of(line: Line) -> str:
    """A line to read; its fields and its body stand below it."""
    moment = time.strftime("%H:%M:%S", time.gmtime(line.time)) + f".{int(line.time % 1 * 1000):03d}"
    words = printable(", ".join(filter(None, _words(line))))
    head = f"{moment} {line.connection:<6} {_ARROWS[line.way]} {words}"
    fields = [f"{_INDENT}{printable(name)}: {printable(value)}" for name, value in line.fields]
    body = [f"{_INDENT}{printable(each)}" for each in line.body.splitlines()]
    return "\n".join([head, *fields, *body])


def _words(line: Line) -> list[str]:
    if line.what in ("command", "reply"):
        return [line.text]
    stream = f" stream {line.stream}" if line.stream else ""
    octets = f"{line.octets} octets" if line.octets else ""
    if line.left_out:
        return [f"... {line.left_out} lines left out"]
    if line.way == "event":
        peer = f" {line.peer}" if line.peer else ""
        return [f"{line.what}{peer}", line.text, octets]
    return [f"{line.what}{stream}", octets, line.text]
