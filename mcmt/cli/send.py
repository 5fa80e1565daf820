"""``mcmt send``: one push, put into an MCMT message and submitted by SMTP or HTTP as an application would."""

from __future__ import annotations

import getpass
import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from mcmt.cli.common import config_option, connect, json_option, load_places
from mcmt.cli.compose import make_message, make_payload, parse_field
from mcmt.errors import ConfigError

if TYPE_CHECKING:
    from mcmt.cli.submission import Reply
    from mcmt.config.settings import Settings
    from mcmt.control.client import ControlClient

_WAIT = 30.0


def _fields(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:  # noqa: ARG001 - click's
    try:
        return [parse_field(value) for value in values]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _address(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, int] | None:  # noqa: ARG001 - click's
    from mcmt.config.listeners import parse_address

    if value is None:
        return None
    try:
        host, port = parse_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return host or "127.0.0.1", port


@click.command()
@click.option("--to", "recipient", metavar="ADDRESS", help="The recipient. [default: push@ and the first apn domain]")
@click.option("--token", "tokens", multiple=True, metavar="T", help="A device token; may be repeated.")
@click.option("--alert", metavar="TEXT", help="The text to show.")
@click.option("--title", metavar="TEXT", help="A title above it.")
@click.option("--badge", type=click.IntRange(min=0), metavar="N", help="The number on the app's icon.")
@click.option("--sound", metavar="NAME", help="The sound to play, as in default.")
@click.option("--payload", type=click.File("rb"), metavar="FILE", help="The whole JSON, sent as it is; - is stdin.")
@click.option(
    "--header",
    "fields",
    multiple=True,
    metavar="'NAME: VALUE'",
    callback=_fields,
    help="A header of the push, as in 'apns-priority: 5'; may be repeated.",
)
@click.option("--from", "sender", metavar="ADDRESS", help="Who hears of failures. [default: you, at this host]")
@click.option("--smtp", metavar="HOST:PORT", callback=_address, help="Where to submit. [default: the configuration's]")
@click.option("--http", "url", metavar="URL", help="Submit by HTTP, as in http://127.0.0.1:8025.")
@click.option(
    "--api-key-file",
    "key_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Has the token for --http. [default: $MCMT_API_KEY]",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0, min_open=True),
    is_flag=False,
    flag_value=_WAIT,
    metavar="[SECONDS]",
    help=f"Show the log lines that follow until every delivery has ended, for at most {_WAIT:g} seconds or as many.",
)
@json_option
@config_option
def send(
    recipient: str | None,
    tokens: tuple[str, ...],
    alert: str | None,
    title: str | None,
    badge: int | None,
    sound: str | None,
    payload: BinaryIO | None,
    fields: list[tuple[str, str]],
    sender: str | None,
    smtp: tuple[str, int] | None,
    url: str | None,
    key_file: Path | None,
    wait: float | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Send a push notification through the engine, as an application would.

    The reply is printed; as JSON with the batch id, and each line of the log on one of its own. Exits with 1 when the
    message was refused and, with --wait, when a delivery failed or has not ended in time.

    \b
    mcmt send --token 9b1f...1100 --alert "You have mail" --badge 9 --wait
    mcmt send --to push@apn.example.com --token 9b1f...1100 --payload push.json --header 'apns-push-type: voip'
    """
    given = (alert, title, badge, sound)
    if payload is None and given == (None, None, None, None):
        raise click.UsageError("nothing to send: give --alert, --title, --badge, --sound or --payload")
    if payload is not None and given != (None, None, None, None):
        raise click.UsageError("--payload is the whole JSON: --alert, --title, --badge and --sound belong into it")
    if not tokens and recipient is None:
        raise click.UsageError("no device: give --token, or --to with an address whose local part is a token")
    if url is not None and smtp is not None:
        raise click.UsageError("--http and --smtp are two ways: give one of them")
    content = payload.read() if payload is not None else make_payload(*given)
    needed = (smtp is None and url is None) or wait is not None or recipient is None or config is not None
    settings = _settings(config, needed=needed)
    sender = sender or _default_sender(settings)
    recipient = recipient or _default_recipient(settings)
    message = make_message(sender, recipient, tokens, fields, content, f"mcmt-{secrets.token_hex(12)}")

    def hand_over() -> Reply:
        if url is None:
            return _submit(smtp, settings, sender, recipient, message)
        from mcmt.cli.http_submission import submit_by_http

        return submit_by_http(url, key_file, sender, recipient, message)

    if wait is None:
        _report(hand_over(), as_json=as_json)
        return
    assert settings is not None  # noqa: S101 - it was needed
    from mcmt.control.protocol import Follow
    from mcmt.message.address import domain_of

    with connect(settings) as client:
        client.follow(Follow(domain=domain_of(recipient)))
        started = time.monotonic()
        batch_id = _report(hand_over(), as_json=as_json).batch_id
        if not batch_id:
            raise click.ClickException("the listener gave no batch id, so its log lines cannot be told from others")
        client.follow(Follow(batch_id=batch_id))
        _wait_for(client, batch_id, started + wait, as_json=as_json)


def _settings(config: Path | None, *, needed: bool) -> Settings | None:
    try:
        return load_places(config)
    except ConfigError:
        if needed:
            raise
        return None


def _default_sender(settings: Settings | None) -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name
        user = "mcmt"
    return f"{user}@{settings.hostname if settings else 'localhost'}"


def _default_recipient(settings: Settings | None) -> str:
    from mcmt.config.patterns import is_pattern

    names = [name for name, domain in settings.domains.items() if domain.delivery_method == "apn"] if settings else []
    for name in names:
        if not is_pattern(name):
            return f"push@{name}"
    raise click.UsageError("the configuration names no domain with delivery_method: apn; say where with --to ADDRESS")


def _submit(
    smtp: tuple[str, int] | None, settings: Settings | None, sender: str, recipient: str, message: bytes
) -> Reply:
    from mcmt.cli.submission import submit

    host, port = smtp or _listener(settings)
    return submit(host, port, sender, recipient, message)


def _listener(settings: Settings | None) -> tuple[str, int]:
    """Where the configured engine takes mail from this machine."""
    assert settings is not None  # noqa: S101 - it was needed
    if not settings.listen:
        text = f"{settings.file} has no esmtp_listener: name another engine's with --smtp, or submit with --http"
        raise click.ClickException(text)
    listen = settings.listen[0]
    host, port = listen.host or "127.0.0.1", listen.port
    if port == 0:  # the system chose: the engine knows
        from mcmt.control.protocol import EngineStatus, Status

        with connect(settings) as client:
            host, port = next(client.ask(Status(), EngineStatus)).addresses[0]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - read, not bound


def _report(reply: Reply, *, as_json: bool) -> Reply:
    if not reply.accepted:
        raise click.ClickException(f"refused at {reply.command}: {reply.text}")
    click.echo(json.dumps({"id": reply.batch_id, "reply": reply.text}) if as_json else reply.text)
    return reply


def _wait_for(client: ControlClient, batch_id: str, deadline: float, *, as_json: bool) -> None:
    from mcmt.cli.outcome import MessageOutcome

    outcome = MessageOutcome(batch_id)
    while not outcome.complete:
        line = client.next_line(max(0.0, deadline - time.monotonic()))
        if line is None:
            pending = (
                "the message" if outcome.pending is None else f"{outcome.pending} of {outcome.deliveries} deliveries"
            )
            raise click.ClickException(f"time is over and {pending} not ended: mcmt queue show {batch_id}")
        if (text := outcome.take(line)) is not None:
            click.echo(json.dumps({"line": text}) if as_json else text)
    if outcome.failed:
        raise click.ClickException(f"{outcome.failed} of {outcome.deliveries} deliveries failed")
