"""``mcmt pyapns``: the domains that were made for apps of pyapns' clients."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, printable, routed

_ROW = "{:<40} {:<11} {:<28} {:<11} {}"


@click.group()
def pyapns() -> None:
    """Look at the domains that were made for apps of pyapns' clients, let go of them."""


@pyapns.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List the domains that were made, with app id, environment, topic, and the day when the certificate expires.

    No engine need run. With --json: one object a line; expires is in seconds since the epoch.
    """
    import msgspec

    made = load_places(config).made
    if made and not as_json:
        click.echo(_ROW.format("DOMAIN", "ENVIRONMENT", "TOPIC", "EXPIRES", "APP"))
    for domain, one in sorted(made.items()):
        if as_json:
            fields = {name: getattr(one, name) for name in ("app_id", "environment", "topic", "expires")}
            click.echo(msgspec.json.encode({"domain": domain, **fields}))
        else:
            until = time.strftime("%Y-%m-%d", time.gmtime(one.expires))
            click.echo(_ROW.format(domain, one.environment, printable(one.topic), until, printable(one.app_id)))


@pyapns.command()
@click.argument("domain")
@json_option
@config_option
def remove(domain: str, as_json: bool, config: Path | None) -> None:
    """Let go of DOMAIN, which was made for an app, with its certificate and key.

    Its app has none from then on; when a client provisions it again, it is made again. Mail that waits for DOMAIN stays
    in the spool: see mcmt queue.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Counted
    from mcmt.control.registrations import RemoveMadeDomain

    with connect(settings) as client:
        count = sum(item.count for item in client.ask(RemoveMadeDomain(routed(domain)), Counted))
    click.echo(msgspec.json.encode({"removed": count}) if as_json else f"{domain} is removed")
