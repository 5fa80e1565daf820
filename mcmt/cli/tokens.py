"""``mcmt tokens``: the device tokens that the gateways said are gone."""

from __future__ import annotations

import csv
import io
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, printable, routed
from mcmt.cli.completing import complete_domain

if TYPE_CHECKING:
    from mcmt.control.client import ControlClient
    from mcmt.spool.port import GoneToken

_ROW = "{:<24} {:<64} {:<8} {:<20} {:<20} {}"
_PAGE = 200
"""Rows written at a time."""
_AT_ONCE = 50
"""Tokens in one request, which is at most 64 KB."""
_COLUMNS = ("domain", "token", "since", "state", "learned", "reason", "source", "delivery", "number")
_LONGEST_TOKEN = 256
_LONGEST_REASON = 100
_is_token = re.compile(rf"[!-~]{{1,{_LONGEST_TOKEN}}}").fullmatch


@click.group()
def tokens() -> None:
    """Look at device tokens that are gone, hand them on, let go of them."""


@tokens.command("list")
@click.argument("domain", required=False, shell_complete=complete_domain)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many. [default: all]")
@click.option(
    "--after", type=click.IntRange(min=0), metavar="NUMBER", default=0, help="Only those with a larger number."
)
@json_option
@config_option
def list_(domain: str | None, limit: int | None, after: int, as_json: bool, config: Path | None) -> None:
    """List the tokens that are gone, of DOMAIN or of all, in the order in which they were learned.

    It is written as it is read, however long. With --json: one object a line; times are seconds since the epoch. A
    script that remembers the last number that it has seen, and gives it with --after, is told each token once.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Tokens
    from mcmt.spool.port import GoneToken

    decode = msgspec.json.Decoder(GoneToken).decode
    with connect(settings) as client:
        items = client.ask_raw(Tokens(None if domain is None else routed(domain), limit, after))
        if not as_json and (first := next(items, None)) is not None:
            click.echo(_ROW.format("DOMAIN", "TOKEN", "STATE", "SINCE", "LEARNED", "REASON"))
            items = chain((first,), items)
        while page := list(islice(items, _PAGE)):
            click.echo(b"\n".join(page) if as_json else "\n".join([_row(decode(item)) for item in page]))


@tokens.command()
@click.argument("domain", required=False, shell_complete=complete_domain)
@click.option(
    "--after", type=click.IntRange(min=0), metavar="NUMBER", default=0, help="Only those with a larger number."
)
@config_option
def export(domain: str | None, after: int, config: Path | None) -> None:
    """Write the tokens that are gone as CSV, of DOMAIN or of all, for a database or a spreadsheet.

    The columns are named in the first line; times are seconds since the epoch.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Tokens
    from mcmt.spool.port import GoneToken

    decode = msgspec.json.Decoder(GoneToken).decode
    with connect(settings) as client:
        items = client.ask_raw(Tokens(None if domain is None else routed(domain), None, after))
        page = io.StringIO()
        write = csv.writer(page, lineterminator="\n").writerow
        write(_COLUMNS)
        while True:
            more = list(islice(items, _PAGE))
            for item in more:
                token = decode(item)
                write([getattr(token, column) for column in _COLUMNS])
            click.echo(page.getvalue(), nl=False)
            if not more:
                return
            page.seek(0)
            page.truncate()


@tokens.command("import")
@click.argument("file", type=click.File("rb"))
@json_option
@config_option
def import_(file: BinaryIO, as_json: bool, config: Path | None) -> None:
    """Take the tokens in FILE ("-": standard input) for gone: what "list --json" or "export" has written.

    Needed of each are domain, token and since; where the same token is known to be gone since later, that stays. What
    was imported before a line that cannot be read stays imported.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Counted, LearnTokens

    read = new = 0
    found = _read(file)
    with connect(settings) as client:
        while page := tuple(islice(found, _AT_ONCE)):
            read += len(page)
            new += sum(item.count for item in client.ask(LearnTokens(page), Counted))
    if as_json:
        click.echo(msgspec.json.encode({"read": read, "new": new}))
    else:
        click.echo(f"{read} tokens read, {new} of them new")


@tokens.command()
@click.argument("domain", shell_complete=complete_domain)
@click.argument("token", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every token of DOMAIN.")
@click.option(
    "--learned-before", type=float, metavar="TIME", help="Every token learned before, seconds since the epoch."
)
@json_option
@config_option
def forget(
    domain: str, token: tuple[str, ...], every: bool, learned_before: float | None, as_json: bool, config: Path | None
) -> None:
    """Let go of gone tokens of DOMAIN: each TOKEN ("-": one a line from standard input), or with an option many.

    Messages to them are sent again. A token that the gateway calls gone once more is learned once more.
    """
    if (bool(token) + every + (learned_before is not None)) != 1:
        raise click.UsageError("name tokens, or give --all, or --learned-before")
    settings = load_places(config)
    import msgspec

    name = routed(domain)
    with connect(settings) as client:
        if token:
            named = (line.strip() for line in sys.stdin) if token == ("-",) else iter(token)
            count = _forget(client, name, filter(None, named))
        else:
            before = time.time() if learned_before is None else learned_before
            count = _ask(client, name, (), before)
    if as_json:
        click.echo(msgspec.json.encode({"forgotten": count}))
    else:
        click.echo(f"{count} tokens forgotten")


def _forget(client: ControlClient, domain: str, tokens: Iterator[str]) -> int:
    count = 0
    while page := tuple(islice(tokens, _AT_ONCE)):
        for token in page:
            if len(token) > _LONGEST_TOKEN:
                raise click.UsageError(f"not a device token: {token[:40]!r}...")
        count += _ask(client, domain, page, 0.0)
    return count


def _ask(client: ControlClient, domain: str, tokens: Sequence[str], before: float) -> int:
    from mcmt.control.protocol import Counted, ForgetTokens

    return sum(item.count for item in client.ask(ForgetTokens(domain, tuple(tokens), before), Counted))


def _read(file: BinaryIO) -> Iterator[GoneToken]:
    """The tokens in a file of JSON lines or of CSV. Raises ClickException naming a line that is wrong."""
    lines = io.TextIOWrapper(file, "utf-8", errors="replace")
    first = lines.readline()
    if first.lstrip().startswith("{"):
        yield from _read_json(chain((first,), lines))
    elif first.strip():
        yield from _read_csv(chain((first,), lines))


def _read_json(lines: Iterable[str]) -> Iterator[GoneToken]:
    import msgspec

    from mcmt.spool.port import GoneToken

    decode = msgspec.json.Decoder(GoneToken).decode
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                yield _imported(decode(line))
        except (msgspec.MsgspecError, ValueError) as error:
            raise click.ClickException(f"line {number}: {error}") from None


def _read_csv(lines: Iterable[str]) -> Iterator[GoneToken]:
    from mcmt.spool.port import GoneToken

    reader = csv.DictReader(lines, restval="")
    try:
        for row in reader:
            yield _imported(
                GoneToken(
                    row["domain"],
                    row["token"],
                    float(row["since"]),
                    "invalid" if row.get("state") == "invalid" else "gone",
                    reason=row.get("reason") or "",
                    delivery=row.get("delivery") or "",
                )
            )
    except KeyError as error:
        raise click.ClickException(f"the first line names no column {error}") from None
    except ValueError as error:
        raise click.ClickException(f"line {reader.line_num}: {error}") from None
    except csv.Error as error:  # before the line is counted
        raise click.ClickException(f"line {reader.line_num + 1}: {error}") from None


def _imported(token: GoneToken) -> GoneToken:
    from mcmt.message.address import routing_name
    from mcmt.spool.port import GoneToken

    domain = routing_name(token.domain)
    if not domain or not _is_token(token.token) or not 0 <= token.since < 1e11:
        raise ValueError("expected a domain, a device token, and a time in seconds since the epoch")
    reason, delivery = token.reason[:_LONGEST_REASON], token.delivery[:_LONGEST_REASON]
    return GoneToken(domain, token.token, token.since, token.state, reason=reason, source="import", delivery=delivery)


def _row(token: GoneToken) -> str:
    return _ROW.format(
        printable(token.domain),
        printable(token.token),
        token.state,
        _stamp(token.since),
        _stamp(token.learned),
        printable(token.reason) or token.source,
    )


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
