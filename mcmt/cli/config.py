"""``mcmt config``: what a configuration means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mcmt.cli.common import config_option, find_file, json_option, printable, routed
from mcmt.cli.completing import complete_domain


@click.group()
def config() -> None:
    """Ask what a configuration means."""


@config.command()
@click.argument("domain", shell_complete=complete_domain)
@config_option
@json_option
@click.pass_context
def explain(context: click.Context, domain: str, config: Path | None, as_json: bool) -> None:
    """Show every option that holds for DOMAIN, and where it comes from.

    That is a default, or a line of the file: at top level, in a group, or in the stanza of the domain, of an expression
    or of every other domain. Durations are in seconds, sizes in bytes. What stands elsewhere (!env, !file) and what
    looks like a secret is not shown. Exits with 1 when no stanza serves DOMAIN.
    """
    import msgspec

    from mcmt.channel.plugins import available
    from mcmt.channel.plugins import load as load_channel
    from mcmt.config.explain import explain as explained
    from mcmt.config.load import load

    channels = {name: load_channel(name) for name in available()}
    loaded = load(find_file(config), channels, open_files=False)
    found = explained(loaded, routed(domain))
    if found is None:
        click.echo(f"no stanza serves {printable(domain)}: its mail is refused with 550 5.1.2", err=True)
        context.exit(1)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    rows = [(each.option, _text(each.value), each.scope, each.place or "") for each in found.options]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:3]]
    click.echo(f"{found.domain} is served by the stanza {found.stanza}")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        click.echo(printable("  ".join((*cells, row[3])).rstrip()))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@config.command()
def schema() -> None:
    """Write the JSON Schema of the configuration, for editors.

    It knows every option, its type, and which channel has it. "mcmt check" knows more.
    """
    from mcmt.channel.plugins import available, load
    from mcmt.config.json_schema import json_schema

    click.echo(json.dumps(json_schema({name: load(name) for name in available()}), indent=2))
