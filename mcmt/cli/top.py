"""``mcmt top``: the running engine, live: rates, queues, connections, the worst routes first."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, printable, span

if TYPE_CHECKING:
    from mcmt.control.client import ControlClient
    from mcmt.control.protocol import DomainStatus, EngineStatus
    from mcmt.eventlog.tally import Totals

_ROW = "{:<30} {:<10} {:>5} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>7}"
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
        lines = [line[: size.columns] for line in page(before, shown)[: size.lines - 1]]
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


def page(before: Shot, after: Shot) -> list[str]:
    """The lines that are shown."""
    engine, by_domain = after.engine, rates(before, after)
    total = Rate(*map(sum, zip(*by_domain.values(), strict=True))) if by_domain else Rate()
    lag = f"{span(engine.outbox_lag)} behind" if engine.outbox_lag >= 1 else "up to date"
    workers = len(engine.workers)
    lines = [
        f"mcmt {engine.version}, up {span(engine.uptime)}, {workers} {'worker' if workers == 1 else 'workers'}, "
        f"clients {engine.sessions}, queued {engine.queued}, in memory {engine.resident}, logs {lag}",
        f"a second: accepted {total.accepted:.1f}, delivered {total.delivered:.1f}, "
        f"transient {total.transient:.1f}, permanent {total.permanent:.1f}",
        *(f"{printable(missing)}: what it holds is not counted here" for missing in engine.missing),
    ]
    if engine.stuck:
        lines.append("the spool refuses what became of deliveries: nothing is sent")
    if engine.quarantined:
        lines.append(f"{engine.quarantined} deliveries are in quarantine")
    lines += ["", _ROW.format("DOMAIN", "STATE", "CONN", "IN FLIGHT", "QUEUED", "OLDEST", "IN", "OUT", "T", "P")]
    known = {domain.domain: domain for domain in after.domains}
    quiet = [name for name, rate in by_domain.items() if name not in known and any(rate)]
    for domain in sorted(after.domains, key=lambda each: _order(each, by_domain)):
        lines += _rows(domain, by_domain.get(domain.domain, Rate()))
    for name in sorted(quiet):
        lines.append(_row(name, "idle", "", "", "", "", by_domain[name]))
    return lines


def _order(domain: DomainStatus, by_domain: Mapping[str, Rate]) -> tuple[int, float, float, str]:
    rate = by_domain.get(domain.domain, Rate())
    word = domain.state.partition(" ")[0]
    return (_GRAVITY.get(word, len(_GRAVITY)), -(domain.oldest or 0.0), -sum(rate), domain.domain)


def _rows(domain: DomainStatus, rate: Rate) -> list[str]:
    state, _, why = domain.state.partition(" by ")
    oldest = span(domain.oldest)
    row = _row(domain.domain, state, domain.connections, domain.in_flight, domain.queued, oldest, rate)
    because = "; ".join(filter(None, [f"by {why}" if why else "", printable(domain.reason)]))
    return [row, f"    {because}"] if because else [row]


def _row(name: str, state: str, connections: object, in_flight: object, queued: object, oldest: str, rate: Rate) -> str:
    shown = [f"{each:.1f}" for each in rate]
    return _ROW.format(printable(name), state, connections, in_flight, queued, oldest, *shown)


def _json(before: Shot, after: Shot) -> bytes:
    import msgspec

    told = msgspec.structs.asdict(after.engine)
    per_second = {name: rate._asdict() for name, rate in rates(before, after).items()}
    return msgspec.json.encode({**told, "domains": after.domains, "per_second": per_second})
