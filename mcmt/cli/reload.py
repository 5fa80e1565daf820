"""``mcmt reload``: have the running engine read its configuration again."""

from __future__ import annotations

from pathlib import Path

import click

from mcmt.cli.common import config_option, connect, json_option, load_places

PATIENCE = 150.0
"""Seconds that the engine may take: thousands of domains, read by every process of it."""


@click.command()
@click.option("--check", is_flag=True, help="Only show what would change.")
@json_option
@config_option
def reload(check: bool, as_json: bool, config: Path | None) -> None:
    """Have the running engine read its configuration again and go on by it.

    Shows what has changed, by the option's path, and what holds only after a restart. A configuration with a fault
    changes nothing (exit code 2). Nothing that is under way is broken off: sessions go on, what is on the wire is
    answered, and what is queued goes by the new routes. SIGHUP does the same, and tells it on standard error.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.config.changes import shown_stanza
    from mcmt.control.protocol import Reload, Reloaded

    with connect(settings, PATIENCE) as client:
        (item,) = client.ask_raw(Reload(check))
    told = msgspec.json.decode(item, type=Reloaded)
    if as_json:
        click.echo(item)
    else:
        for warning in told.warnings:
            click.echo(f"Warning: {warning}", err=True)
        for domain in told.domains:
            stanza = shown_stanza(domain.stanza)
            if not domain.options:
                click.echo(f"{stanza}: {domain.change}")
            for option in domain.options:
                click.echo(f"{stanza}.{option}: {domain.change}")
        for option in told.options:
            click.echo(f"{option}: changed")
        for option in told.restart:
            click.echo(f"{option}: changed, and holds only after a restart")
    for fault in told.faults:
        click.echo(fault, err=True)
    if told.faults:
        click.echo(f"{told.config} has faults: nothing was changed", err=True)
        raise SystemExit(2)
    if not as_json:
        nothing = not (told.domains or told.options or told.restart)
        word = "would be reloaded" if check else "was reloaded"
        click.echo(f"{told.config} {word}" + ("; nothing in it has changed" if nothing else ""))
