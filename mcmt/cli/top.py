"""``mcmt top``: the running engine, live: rates, queues, connections, the worst routes first."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, printable, span

if TYPE_CHECKING:
    from mcmt.control.client import ControlClient
    from mcmt.control.protocol import DomainStatus, EngineStatus
    from mcmt.eventlog.tally import Totals

_ROW = "{:<30} {:<10} {:>5} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>7}"
_NARROW = "{:<17} {:<9} {:>4} {:>6} {:>7} {:>6} {:>6} {:>6} {:>5} {:>5}"
_HEADS = ("DOMAIN", "STATE", "CONN", "IN FLIGHT", "QUEUED", "OLDEST", "IN", "OUT", "T", "P")
WIDE = 110
"""Columns that the wide table needs; on a narrower screen there is one of 80."""
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # xterm's other screen, and the cursor
_AGAIN = "\x1b[H"
_REST_OF_LINE, _REST = "\x1b[K", "\x1b[J"
_GRAVITY: Mapping[str, int] = {"suspended": 0, "down": 1, "no": 2}
"""By the first word of a state: what is shown first."""


class Shot(NamedTuple):
    """What the engine said at one time."""

    at: float
    """Monotonic seconds."""
    engine: EngineStatus
    domains: Sequence[DomainStatus]
    totals: Mapping[str, Totals]


class Rate(NamedTuple):
    """Of one domain, or of all: a second."""

    accepted: float = 0.0
    delivered: float = 0.0
    transient: float = 0.0
    permanent: float = 0.0


@click.command()
@click.option("--once", is_flag=True, help="Show it once, for pipes; what is no terminal gets it so anyway.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 30.0),
    default=2.0,
    show_default=True,
    help="Seconds between two looks, over which rates are taken.",
)
@json_option
@config_option
def top(once: bool, interval: float, as_json: bool, config: Path | None) -> None:
    """Watch the running engine until Ctrl-C.

    Suspended routes come first, then those that are down, then those with the oldest mail. IN is accepted, OUT
    delivered, T failed for now, P for good, all a second. With --json: one object, as --once.
    """
    settings = load_places(config)
    with connect(settings) as client:
        before = _look(client)
        if once or as_json or not sys.stdout.isatty():
            time.sleep(min(interval, 1.0))
            after = _look(client)
            click.echo(_json(before, after) if as_json else "\n".join(page(before, after)))
            return
        click.echo(_ENTER, nl=False)
        try:
            _watch(client, before, interval)
        except KeyboardInterrupt:
            pass  # how it is ended
        finally:
            click.echo(_LEAVE, nl=False)


def _watch(client: ControlClient, before: Shot, interval: float) -> None:
    shown = before
    while True:
        size = shutil.get_terminal_size()
        lines = [line[: size.columns] for line in page(before, shown, size.columns)[: size.lines - 1]]
        click.echo(_AGAIN + "".join(f"{line}{_REST_OF_LINE}\n" for line in lines) + _REST, nl=False)
        time.sleep(interval)
        before, shown = shown, _look(client)


def _look(client: ControlClient) -> Shot:
    import msgspec

    from mcmt.control.protocol import DomainStatus, EngineStatus, Rates, Status
    from mcmt.eventlog.tally import Totals

    totals = {one.domain: one for one in client.ask(Rates(), Totals)}
    engine, *domains = client.ask_raw(Status())
    return Shot(
        time.monotonic(),
        msgspec.json.decode(engine, type=EngineStatus),
        [msgspec.json.decode(domain, type=DomainStatus) for domain in domains],
        totals,
    )


def rates(before: Shot, after: Shot) -> dict[str, Rate]:
    """Of every domain that is counted by name and of all others. An engine that was started anew counts from 0."""
    seconds = max(after.at - before.at, 0.001)
    found = {}
    for name, now in after.totals.items():
        then = before.totals.get(name)
        counts = [
            max(0, getattr(now, field) - (getattr(then, field) if then else 0)) / seconds for field in Rate._fields
        ]
        found[name] = Rate(*counts)
    return found


def page(before: Shot, after: Shot, columns: int = WIDE) -> list[str]:
    """The lines that are shown, for a screen of so many *columns*."""
    table = _Table(_ROW if columns >= WIDE else _NARROW)
    engine, by_domain = after.engine, rates(before, after)
    total = Rate(*map(sum, zip(*by_domain.values(), strict=True))) if by_domain else Rate()
    lag = f"{span(engine.outbox_lag)} behind" if engine.outbox_lag >= 1 else "up to date"
    workers = len(engine.workers)
    head = (
        f"mcmt {engine.version}, up {span(engine.uptime)}, {workers} {'worker' if workers == 1 else 'workers'}, "
        f"clients {engine.sessions}, queued {engine.queued}, in memory {engine.resident}, logs {lag}"
    )
    lines = [
        *textwrap.wrap(head, max(columns, 40)),
        f"a second: accepted {total.accepted:.1f}, delivered {total.delivered:.1f}, "
        f"transient {total.transient:.1f}, permanent {total.permanent:.1f}",
        *map(printable, _away(engine)),
        *(f"{printable(missing)}: what it holds is not counted here" for missing in engine.missing),
    ]
    if engine.stuck:
        lines.append("the spool refuses what became of deliveries: nothing is sent")
    if engine.quarantined:
        lines.append(f"{engine.quarantined} deliveries are in quarantine")
    lines += ["", table.heads]
    known = {domain.domain: domain for domain in after.domains}
    quiet = [name for name, rate in by_domain.items() if name not in known and any(rate)]
    for domain in sorted(after.domains, key=lambda each: _order(each, by_domain)):
        lines += _rows(table, domain, by_domain.get(domain.domain, Rate()))
    for name in sorted(quiet):
        lines += table.row(name, "idle", "", "", "", "", by_domain[name])
    return lines


def _order(domain: DomainStatus, by_domain: Mapping[str, Rate]) -> tuple[int, float, float, str]:
    rate = by_domain.get(domain.domain, Rate())
    word = domain.state.partition(" ")[0]
    return (_GRAVITY.get(word, len(_GRAVITY)), -(domain.oldest or 0.0), -sum(rate), domain.domain)


def _away(engine: EngineStatus) -> Iterator[str]:
    """What is out of reach, or takes nothing."""
    for source in engine.sources:
        if source.state != "connected":
            yield f"{source.kind} {source.address}, tube {source.name}: {source.state}; {source.reason}"
    for component in engine.components:
        if not component.connected:
            yield f"XMPP component {component.jid}: not connected; {component.reason}"
    for webhook in engine.webhooks:
        if webhook.state != "up":
            yield f"webhook {webhook.name}: {webhook.state}, {webhook.events} events wait; {webhook.reason}"


def _rows(table: _Table, domain: DomainStatus, rate: Rate) -> list[str]:
    state, _, why = domain.state.partition(" by ")
    oldest = span(domain.oldest)
    row = table.row(domain.domain, state, domain.connections, domain.in_flight, domain.queued, oldest, rate)
    because = "; ".join(filter(None, [f"by {why}" if why else "", printable(domain.reason)]))
    return [*row, f"    {because}"] if because else row


class _Table:
    """The table of domains, by the format of its rows."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._is_narrow = form == _NARROW
        self._name = 17 if self._is_narrow else 30
        self.heads = form.format(*("FLIGHT" if self._is_narrow and head == "IN FLIGHT" else head for head in _HEADS))

    def row(self, name: str, *values: object) -> list[str]:
        """A domain's: state, connections, in flight, queued, oldest and its Rate. A long name has a line of its own."""
        *counts, rate = values
        assert isinstance(rate, Rate)  # noqa: S101 - see above
        shown, name = [_short(each) if self._is_narrow else f"{each:.1f}" for each in rate], printable(name)
        alone = [name] if self._is_narrow and len(name) > self._name else []
        return [*alone, self._form.format("" if alone else name, *counts, *shown)]


def _short(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def _json(before: Shot, after: Shot) -> bytes:
    import msgspec

    told = msgspec.structs.asdict(after.engine)
    per_second = {name: rate._asdict() for name, rate in rates(before, after).items()}
    return msgspec.json.encode({**told, "domains": after.domains, "per_second": per_second})
