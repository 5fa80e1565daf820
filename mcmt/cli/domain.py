"""``mcmt domain``: the domains of the running engine, and stopping and starting the sending to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import (
    config_option,
    connect,
    duration,
    in_force,
    json_option,
    load_places,
    plain_option,
    printable,
    routed,
    span,
)
from mcmt.cli.completing import complete_domain
from mcmt.cli.selecting import selected
from mcmt.cli.working import work

if TYPE_CHECKING:
    from mcmt.config.settings import Settings
    from mcmt.control.protocol import Action, DomainDetail, DomainStatus


_ROW = "{:<32} {:<9} {:>5} {:>8} {:>6} {:>7} {:>7}"
_NAME = 32


@click.group()
def domain() -> None:
    """Look at domains; suspend and resume the sending to them; end all that is queued for one."""


@domain.command("list")
@json_option
@plain_option
@config_option
def list_(as_json: bool, plain: bool, config: Path | None) -> None:
    """List every stanza, and every domain that has something to do.

    With --json: one object a line; durations are seconds. With --plain, or into a pipe: columns parted by tabs.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Domains, DomainStatus

    decode = msgspec.json.Decoder(DomainStatus).decode
    with connect(settings) as client:
        items = client.ask_raw(Domains())
        if not (as_json or plain):
            click.echo(_ROW.format("DOMAIN", "STATE", "CONN", "QUEUED", "HELD", "OLDEST", "DUE"))
        for item in items:
            if as_json:
                click.echo(item)
            else:
                click.echo((_columns if plain else _row)(decode(item)))


@domain.command()
@click.argument("name", metavar="DOMAIN", shell_complete=complete_domain)
@json_option
@config_option
def show(name: str, as_json: bool, config: Path | None) -> None:
    """Show everything about DOMAIN: how it fares, what it last heard, and what holds for its deliveries."""
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Domain, DomainDetail

    with connect(settings) as client:
        (item,) = client.ask_raw(Domain(routed(name)))
    if as_json:
        click.echo(item)
        return
    _write_detail(msgspec.json.decode(item, type=DomainDetail))


@domain.command()
@click.argument("name", metavar="DOMAIN", shell_complete=complete_domain)
@click.option("--reason", default="", help="Why; it is shown in the status and in the main log.")
@click.option("--for", "span_", metavar="DURATION", help="Resume by itself after so long: 90s, 10m, 2h, 1d.")
@json_option
@config_option
def suspend(name: str, reason: str, span_: str | None, as_json: bool, config: Path | None) -> None:
    """Send nothing to DOMAIN until it is resumed, also over restarts.

    Mail for it is accepted and kept. What is on the wire may still be answered; what expires meanwhile fails.
    """
    seconds = 0.0 if span_ is None else duration("--for", span_)
    settings = load_places(config)
    from mcmt.control.protocol import Suspend

    act(settings, Suspend(routed(name), reason or "no reason given", seconds), as_json=as_json)


@domain.command()
@click.argument("name", metavar="DOMAIN", shell_complete=complete_domain)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stands in the log line and in the report.")
@click.option("--quiet", is_flag=True, help="Tell no sender.")
@click.option("--dry-run", is_flag=True, help="Count what is selected, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Without a terminal nothing is asked either.")
@json_option
@config_option
def flush(name: str, reason: str, quiet: bool, dry_run: bool, yes: bool, as_json: bool, config: Path | None) -> None:
    """End everything that is queued for DOMAIN as failed, and tell the senders.

    As queue bounce --domain DOMAIN does, or queue delete with --quiet.
    """
    work(
        load_places(config),
        "delete" if quiet else "bounce",
        selected((), name),
        everything=False,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
        reason=reason,
    )


@domain.command()
@click.argument("name", metavar="DOMAIN", shell_complete=complete_domain)
@click.option(
    "--trust",
    is_flag=True,
    help="The route is right: believe the gateway when it refuses device tokens, though it accepted none.",
)
@json_option
@config_option
def resume(name: str, trust: bool, as_json: bool, config: Path | None) -> None:
    """Send to DOMAIN again, whether it was suspended by hand, by a fault of its route, by the mismatch guard or by a
    rule, and lift what rules have set."""
    settings = load_places(config)
    from mcmt.control.protocol import Resume

    act(settings, Resume(routed(name), trust), as_json=as_json)


def act(settings: Settings, action: Action, *, as_json: bool) -> None:
    """Have the engine do it, and show how the domain fares then. Raises ControlError."""
    import msgspec

    from mcmt.control.protocol import DomainStatus

    with connect(settings) as client:
        (item,) = client.ask_raw(action)
    if as_json:
        click.echo(item)
        return
    status = msgspec.json.decode(item, type=DomainStatus)
    reason = f" ({printable(status.reason)})" if status.reason else ""
    reason += "" if status.until is None else f" for {span(status.until)}"
    name = printable(status.domain)
    click.echo(f"{name}: {status.state}{reason}; {status.queued} queued, {status.in_flight} in flight")


def _row(status: DomainStatus) -> str:
    shown = printable(status.domain)
    name, lead = (shown, "") if len(shown) <= _NAME else ("", f"{shown}\n")
    state = status.state.partition(" by ")[0]
    due = "now" if status.next_due == 0 else span(status.next_due)
    return lead + _ROW.format(name, state, status.connections, status.queued, status.on_hold, span(status.oldest), due)


def _columns(status: DomainStatus) -> str:
    """One line for other programs; times in seconds, nothing where there is none."""
    times = ("" if moment is None else f"{moment:.0f}" for moment in (status.oldest, status.next_due, status.until))
    counts = (status.connections, status.in_flight, status.ready, status.queued, status.on_hold)
    text = (status.domain, status.channel, status.state, *map(str, counts), *times, status.route, status.reason)
    return "\t".join(map(printable, text))


def _write_detail(detail: DomainDetail) -> None:
    status = detail.status
    until = "" if status.until is None else f" for {span(status.until)} more"
    due = "now" if status.next_due == 0 else span(status.next_due)
    rows = [
        ("domain", status.domain),
        ("stanza", detail.stanza or "none"),
        ("state", f"{status.state}{f': {status.reason}' if status.reason else ''}{until}"),
        *(("route", route) for route in detail.routes),
        ("connections", f"{status.connections}, {status.in_flight} in flight, {status.ready} ready"),
        ("queued", f"{status.queued}, {status.on_hold} of them held; the oldest since {span(status.oldest)}"),
        ("next due", due),
    ]
    for rule in status.rules:
        rows += [("rule", in_force(rule)), ("", rule.reason)]
    if status.held:
        rows.append(("suspected", f"{status.held} refused in a way that is not believed yet"))
    for text, count in detail.answers.items():
        rows.append(("last answer", f"{count} x {text or 'not tried yet'}"))
    for name, value in rows:
        click.echo(f"{name:<12} {printable(value)}")
    click.echo()
    for option, setting in detail.settings.items():
        setter = next((each.rule for each in status.rules if option in each.options), "")
        by = f" (by rule {setter})" if setter else ""
        click.echo(f"{option:<32} {'-' if setting is None else printable(str(setting))}{by}")
