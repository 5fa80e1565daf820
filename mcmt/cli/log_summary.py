"""``mcmt log summary``: what became of everything, in sum."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import config_option, json_option, load_places, printable, routed, span
from mcmt.cli.completing import complete_domain
from mcmt.cli.log_filters import Filters, found_in, since_option

if TYPE_CHECKING:
    from mcmt.eventlog.summary import Summary

_ROW = "{:<32} {:<11} {:>10} {:>7}  {}"
_SHOWN = 10
"""Reasons of one outcome of one domain, without --all."""
_BAR = 50


@click.command()
@click.option("--domain", metavar="DOMAIN", default="", help="Only this domain.", shell_complete=complete_domain)
@click.option("--all", "everything", is_flag=True, help=f"Show every reason, not the {_SHOWN} most frequent of each.")
@since_option
@json_option
@config_option
def summary(
    domain: str, everything: bool, since: float | None, until: float | None, as_json: bool, config: Path | None
) -> None:
    """Count the main log: outcomes by domain and reason, rates, and how long deliveries took.

    All files of the log are read, rotated and compressed ones too; no engine needs to run. SHARE is of the final
    outcomes of the domain. With --json: one object.
    """
    settings = load_places(config)
    from mcmt.eventlog.summary import Summary

    sums = Summary()
    times = {name: value for name, value in (("since", since), ("until", until)) if value is not None}
    filters = Filters("", routed(domain) if domain else "", (), "", "")
    for lines in found_in(settings, filters, settings.mainlog[0], **times):
        sums.take(lines)
    began = sums.first if since is None else since
    ended = sums.last if until is None and since is None else until or time.time()
    if as_json:
        _write_json(sums, began, ended)
    elif not sums.rows:
        click.echo("There is no line in this time.")
    else:
        _write(sums, began, ended, None if everything else _SHOWN)


def _write_json(sums: Summary, began: float, ended: float) -> None:
    import msgspec

    from mcmt.eventlog.tally import DELAYS

    told = {
        "since": began if sums.rows else None,
        "until": ended if sums.rows else None,
        "totals": sums.totals,
        "rows": sums.rows,
        "delays": [{"up_to": bound, "count": count} for bound, count in zip((*DELAYS, None), sums.delays, strict=True)],
    }
    click.echo(msgspec.json.encode(told))


def _write(sums: Summary, began: float, ended: float, limit: int | None) -> None:
    length = max(1.0, ended - began)
    click.echo(f"{_moment(began)} to {_moment(ended)}, {span(length)}")
    for word, count in sums.totals.items():
        click.echo(f"  {word:<12} {count:>12}  {_rate(count / length)}")
    click.echo()
    click.echo(_ROW.format("DOMAIN", "OUTCOME", "COUNT", "SHARE", "REASON"))
    _write_rows(sums, limit)
    _write_delays(sums)


def _write_rows(sums: Summary, limit: int | None) -> None:
    final: dict[str, int] = {}
    for row in sums.rows:
        if row.outcome in ("delivered", "permanent"):
            final[row.domain] = final.get(row.domain, 0) + row.count
    before, shown, left = ("", ""), 0, 0

    def close() -> None:
        if left:
            click.echo(_ROW.format("", "", left, "", "of further reasons (--all shows them)"))

    for row in sums.rows:
        here = (row.domain, row.outcome)
        if here != before:
            close()
            shown = left = 0
        if limit is not None and shown >= limit:
            left += row.count
            continue
        share = ""
        if row.outcome in ("delivered", "permanent"):
            share = f"{100 * row.count / final[row.domain]:.1f}%"
        domain = row.domain if row.domain != before[0] else ""
        outcome = row.outcome if here != before else ""
        click.echo(_ROW.format(printable(domain) or "", outcome, row.count, share, printable(row.reason)).rstrip())
        before = here
        shown += 1
    close()


def _write_delays(sums: Summary) -> None:
    from mcmt.eventlog.tally import DELAYS

    most = max(sums.delays)
    if not most:
        return
    click.echo("\nFrom the reception to the final answer:")
    used = [number for number, count in enumerate(sums.delays) if count]
    for number in range(used[0], used[-1] + 1):
        name = f"up to {_short(DELAYS[number])}" if number < len(DELAYS) else f"over {_short(DELAYS[-1])}"
        count = sums.delays[number]
        bar = "#" * max(round(_BAR * count / most), 1 if count else 0)
        click.echo(f"  {name:<12} {count:>12}  {bar}".rstrip())


def _short(seconds: float) -> str:
    return f"{round(seconds * 1000)} ms" if seconds < 1 else f"{seconds:g} s" if seconds < 60 else span(seconds)


def _rate(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
