"""``mcmt status``: how the running engine fares."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import address, config_option, connect, in_force, json_option, load_places, printable, span

if TYPE_CHECKING:
    from mcmt.control.protocol import DomainStatus, EngineStatus
    from mcmt.intake.sources import SourceStatus
    from mcmt.telemetry.status import TelemetryStatus
    from mcmt.webhooks.status import WebhookStatus

_ROW = "{:<21} {:<9} {:>4} {:>6} {:>5} {:>8} {:>5} {:>7} {:>7}"
_NAME = 21
_WIDTH = 80


@click.command()
@json_option
@config_option
def status(as_json: bool, config: Path | None) -> None:
    """Show the running engine and every domain that has something to do.

    With --json: one object, the domains in it under "domains"; durations are seconds.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.control.protocol import DomainStatus, EngineStatus, Status

    with connect(settings) as client:
        items = client.ask_raw(Status())
        engine = next(items)
        if as_json:
            _write_json(engine, items)
            return
        _write_engine(msgspec.json.decode(engine, type=EngineStatus))
        for number, item in enumerate(items):
            if number == 0:
                click.echo()
                click.echo(_ROW.format("DOMAIN", "STATE", "CONN", "FLIGHT", "READY", "QUEUED", "HELD", "OLDEST", "DUE"))
            _write_domain(msgspec.json.decode(item, type=DomainStatus))


def _write_json(engine: bytes, domains: Iterator[bytes]) -> None:
    # Written as it comes: there may be very many domains.
    click.echo(engine.decode().removesuffix("}") + ',"domains":[', nl=False)
    for number, domain in enumerate(domains):
        click.echo((",\n" if number else "\n") + domain.decode(), nl=False)
    click.echo("]}")


def _write_engine(engine: EngineStatus) -> None:
    listening = ", ".join(address(host, port) for host, port in engine.addresses)
    others = ", ".join(f"{word} {address(host, port)}" for word, host, port in engine.listening if word != "SMTP")
    lag = f"the oldest line waits since {span(engine.outbox_lag)}" if engine.outbox_lag >= 1 else "up to date"
    workers = f", {len(engine.workers)} workers" if len(engine.workers) > 1 else ""
    click.echo(f"mcmt {engine.version}, pid {engine.pid}{workers}, up {span(engine.uptime)}, {engine.config}")
    for missing in engine.missing:
        click.echo(f"{missing}: what it holds is not counted here")
    _write("SMTP   ", f"{listening or 'not listening'}; clients: {engine.sessions}")
    if others:
        _write("doors  ", others)
    for one in engine.components:
        state = "connected" if one.connected else f"not connected: {printable(one.reason)}"
        devices = "" if one.registrations is None else f"; {one.registrations} devices registered"
        _write("XMPP   ", f"{one.jid} to {one.place}: {state}{devices}")
    click.echo(f"spool  {engine.spool}")
    click.echo(
        f"queue  {engine.queued} queued, {engine.held} held, {engine.resident} in memory; {engine.owed} reports owed"
    )
    click.echo(f"logs   {lag}")
    for source in engine.sources:
        _write_source(source)
    for webhook in engine.webhooks:
        _write_webhook(webhook)
    if engine.telemetry is not None:
        _write_telemetry(engine.telemetry)
    if engine.quarantined:
        click.echo(
            f"{engine.quarantined} deliveries cannot be read and are in quarantine: the main log has a Q line of each"
        )


def _write_webhook(webhook: WebhookStatus) -> None:
    dropped = f", {webhook.dropped} DROPPED" if webhook.dropped else ""
    counts = f"{webhook.events} events wait, {webhook.sent} sent{dropped}"
    _write("", f"webhook {webhook.name} ({webhook.host}): {webhook.state}, {counts}")
    if webhook.reason:
        until = "" if webhook.next is None else f"; tried again in {span(webhook.next)}"
        _write("    ", f"{printable(webhook.reason)}{until}")


def _write_telemetry(telemetry: TelemetryStatus) -> None:
    gone = "".join(
        [f", {count} {word}" for count, word in ((telemetry.dropped, "DROPPED"), (telemetry.lost, "LOST")) if count]
    )
    counts = f"{telemetry.waiting} spans wait, {telemetry.sent} sent{gone}"
    click.echo(f"opentelemetry ({telemetry.host}): {telemetry.state}, {counts}")
    if telemetry.reason:
        click.echo(textwrap.fill(printable(telemetry.reason), _WIDTH, initial_indent="    ", subsequent_indent="    "))


def _write_source(source: SourceStatus) -> None:
    counts = f"{source.reserved} reserved, {source.taken} taken, {source.repeated} repeated, {source.buried} buried"
    _write("", f"{source.kind} {source.address}, tube {source.name}: {source.state}; {counts}")
    if source.reason:
        _write("    ", printable(source.reason))


def _write(before: str, text: str) -> None:
    """*text* behind *before*, on as many lines as it needs."""
    below = " " * len(before) or "    "
    lines = textwrap.fill(text, _WIDTH, initial_indent=before, subsequent_indent=below, break_on_hyphens=False)
    click.echo(lines)


def _write_domain(domain: DomainStatus) -> None:
    state, _, why = domain.state.partition(" by ")
    due = "now" if domain.next_due == 0 else span(domain.next_due)
    name = printable(domain.domain)
    if len(name) > _NAME:
        click.echo(name)
        name = ""
    counts = (domain.connections, domain.in_flight, domain.ready, domain.queued, domain.on_hold)
    click.echo(_ROW.format(name, state, *counts, span(domain.oldest), due))
    until = "" if domain.until is None else f"for {span(domain.until)} more"
    route = f"{domain.channel} {domain.route}".strip()
    urgent = f"{domain.high} of high priority" if domain.high else ""
    bulk = f"{domain.bulk} bulk" if domain.bulk else ""
    details = [route, f"by {printable(why)}" if why else "", until, printable(domain.reason), urgent, bulk]
    details += [f"by rule {printable(in_force(rule))}" for rule in domain.rules]
    _write("    ", "; ".join(detail for detail in details if detail))
