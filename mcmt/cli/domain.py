"""``mcmt domain``: stop and start the sending to a domain of the running engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, printable, routed

if TYPE_CHECKING:
    from mcmt.config.settings import Settings
    from mcmt.control.protocol import Action


@click.group()
def domain() -> None:
    """Suspend and resume the deliveries to a domain."""


@domain.command()
@click.argument("name", metavar="DOMAIN")
@click.option("--reason", default="", help="Why; it is shown in the status and in the main log.")
@json_option
@config_option
def suspend(name: str, reason: str, as_json: bool, config: Path | None) -> None:
    """Send nothing to DOMAIN until it is resumed, also over restarts.

    Mail for it is accepted and kept. What is on the wire may still be answered; what expires meanwhile fails.
    """
    settings = load_places(config)
    from mcmt.control.protocol import Suspend

    act(settings, Suspend(routed(name), reason or "no reason given"), as_json=as_json)


@domain.command()
@click.argument("name", metavar="DOMAIN")
@click.option(
    "--trust",
    is_flag=True,
    help="The route is right: believe the gateway when it refuses device tokens, though it accepted none.",
)
@json_option
@config_option
def resume(name: str, trust: bool, as_json: bool, config: Path | None) -> None:
    """Send to DOMAIN again, whether it was suspended by hand, by a fault of its route or by the mismatch guard."""
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
    click.echo(f"{status.domain}: {status.state}{reason}; {status.queued} queued, {status.in_flight} in flight")
