"""``mcmt registration``: the devices that XMPP servers push to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, printable

if TYPE_CHECKING:
    from mcmt.config.settings import Settings
    from mcmt.spool.registration import Registration

_ROW = "{:<24} {:<28} {:<16} {:<20} {}"

_service_option = click.option(
    "--service", metavar="JID", help="The component. [default: the one that the configuration has]"
)


@click.group()
def registration() -> None:
    """Look at the devices that XMPP servers push to, register them by hand, let go of them."""


@registration.command("list")
@click.option("--service", metavar="JID", default="", help="Only those of this component.")
@json_option
@config_option
def list_(service: str, as_json: bool, config: Path | None) -> None:
    """List the registered devices, oldest first, without their secrets.

    With --json: one object a line; times are seconds since the epoch.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.registrations import ListRegistrations
    from mcmt.spool.registration import Registration

    decode = msgspec.json.Decoder(Registration).decode
    with connect(settings) as client:
        for number, item in enumerate(client.ask_raw(ListRegistrations(service.lower()))):
            if as_json:
                click.echo(item)
                continue
            if number == 0:
                click.echo(_ROW.format("NODE", "OWNER", "DEVICE", "REGISTERED", "TOKEN"))
            click.echo(_row(decode(item)))


@registration.command()
@click.argument("owner")
@click.argument("token")
@click.option("--device", default="default", help="What the owner calls the device. [default: default]")
@click.option("--node", default="", help="What the owner's server publishes to. [default: made]")
@click.option("--secret", default="", help="What it shows. [default: made]")
@_service_option
@json_option
@config_option
def add(
    owner: str,
    token: str,
    device: str,
    node: str,
    secret: str,
    service: str | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Register the device with the device token TOKEN for OWNER, a user's bare JID; print its node and secret.

    A device that is registered already keeps both and gets the token.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.registrations import AddRegistration
    from mcmt.intake.xmpp.commands import is_token
    from mcmt.spool.registration import Registration

    if not is_token(token):
        raise click.UsageError(f"not a device token: {token[:80]!r}")
    if "@" not in owner or "/" in owner:
        raise click.UsageError(f"not a user's bare JID such as alice@example.com: {owner[:80]!r}")
    asked = Registration(
        service=_service(settings, service),
        node=node,
        owner=owner.lower(),
        device=device,
        token=token.lower(),
        secret=secret,
    )
    with connect(settings) as client:
        (kept,) = client.ask(AddRegistration(asked), Registration)
    if as_json:
        click.echo(msgspec.json.encode(kept))
    else:
        click.echo(f"jid     {kept.service}\nnode    {kept.node}\nsecret  {kept.secret}")


@registration.command()
@click.argument("node", required=False, default="")
@click.option("--owner", metavar="JID", default="", help="Every device of this user.")
@click.option("--device", default="", help="With --owner: this one alone.")
@_service_option
@json_option
@config_option
def remove(node: str, owner: str, device: str, service: str | None, as_json: bool, config: Path | None) -> None:
    """Let go of the registration of NODE, or with an option of a user's. Its server is told when it pushes next."""
    if bool(node) == bool(owner) or (device and not owner):
        raise click.UsageError("name a node, or give --owner")
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import Counted
    from mcmt.control.registrations import RemoveRegistrations

    request = RemoveRegistrations(_service(settings, service), node, owner.lower(), device)
    with connect(settings) as client:
        count = sum(item.count for item in client.ask(request, Counted))
    click.echo(msgspec.json.encode({"removed": count}) if as_json else f"{count} registrations removed")


def _service(settings: Settings, given: str | None) -> str:
    if given is not None:
        return given.lower()
    services = sorted({one.jid for one in settings.xmpp})
    if len(services) != 1:
        raise click.UsageError(f"name the component with --service: the configuration has {len(services)}")
    return services[0]


def _row(one: Registration) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.registered))
    return _ROW.format(printable(one.node), printable(one.owner), printable(one.device), at, printable(one.token))
