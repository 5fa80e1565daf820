"""``mcmt audit``: whether the main log and the spool together account for everything that was accepted.

The order in which things are looked at makes what is under way no false alarm:

1. The log is read to its end. Every delivery whose reception is in what was read is in the spool, or has ended.
2. The engine lists what is in the spool, then writes what it owes to the logs. A delivery that was not listed had ended
   by then, so its final line is in the log now.
3. The log is read on, for the messages of 1 and 2 alone. What came since is for the next audit.
4. A delivery that ended and was listed may have ended after it was listed: the engine lists once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli.common import config_option, connect, json_option, load_places, printable

if TYPE_CHECKING:
    from mcmt.config.settings import Settings
    from mcmt.control.client import ControlClient
    from mcmt.eventlog.readback import LogReader
    from mcmt.eventlog.reconciliation import Account, Finding, Reconciliation

_SHOWN = 20
"""Findings of one kind, without --all."""
_SLACK = 60.0
"""Seconds by which lines may stand out of the order of receptions: a commit that the disk held up."""

_TEXTS = {
    "missing": "accepted, has no final line, and is not in the spool",
    "delivered twice": "has two D lines",
    "failed twice": "has two P lines",
    "delivered and failed": "has a D line and a P line",
    "accepted twice": "has two R lines",
    "ended and still queued": "has a final line, and is still in the spool",
    "no reception": "has a final line or is in the spool, and has no R line",
    "not ended": "accepted, and has no final line yet",
    "quarantined": "in quarantine: its row in the spool could not be read",
}


@click.command()
@click.option("--all", "everything", is_flag=True, help=f"Show every id, not the first {_SHOWN} of each kind.")
@json_option
@config_option
@click.pass_context
def audit(context: click.Context, everything: bool, as_json: bool, config: Path | None) -> None:
    """Prove from the main log and the running engine that nothing accepted was lost, or name what was.

    Every delivery that was accepted must have exactly one final line, or be in the spool, or in quarantine. All files
    of the main log are read: the current one, rotated ones, compressed ones. Without a running engine the log alone is
    looked at, and what has not ended yet is unknown.

    Exits with 0 when it is proven, 1 when it is not. With --json: one object.
    """
    settings = load_places(config)
    import msgspec

    from mcmt.errors import ControlError
    from mcmt.eventlog.readback import LogReader
    from mcmt.eventlog.reconciliation import Reconciliation

    log = settings.mainlog[0]
    others = settings.loggers
    reader = LogReader(log.logfile, [other.logfile for other in others if other is not log])
    sums = Reconciliation()
    for lines in reader.blocks():
        sums.take(lines)
    suspected, absent, still_queued = 0, "", set[str]()
    try:
        client = connect(settings)
    except ControlError as error:
        absent = str(error)
    else:
        with client:
            suspected, still_queued = _ask(client, reader, sums)
    keep = None if log.rotate is None else log.rotate.keep
    began = reader.began if reader.complete(keep) else reader.began + _SLACK
    account = sums.account(began, still_queued, queue_known=not absent)
    suspected = min(suspected, account.due)
    verdict = "disproved" if account.wrong else "not proven" if account.unknown else "proven"
    if as_json:
        told = {
            "verdict": verdict,
            "engine": not absent,
            "files": reader.files,
            "suspected": suspected,
            "torn": reader.torn,
        }
        click.echo(msgspec.json.encode({**told, "suspected": suspected, **msgspec.structs.asdict(account)}))
    else:
        _write(account, reader, suspected, absent)
        _write_findings(account.findings, everything)
        click.echo(_sentence(verdict, account, settings))
    context.exit(0 if verdict == "proven" else 1)


def _ask(client: ControlClient, reader: LogReader, sums: Reconciliation) -> tuple[int, set[str]]:
    """Steps 2 to 4; returns how many refusals are not believed yet, and what ended and is still in the spool."""
    import msgspec

    from mcmt.control.protocol import DomainStatus, IdLists, Ids, Status

    for page in client.ask(Ids(), IdLists):
        sums.queue(page.due, page.waiting, page.held)
    for lines in reader.blocks():
        sums.take(lines, known=True)
    _, *domains = client.ask_raw(Status())
    suspected = sum(msgspec.json.decode(domain, type=DomainStatus).held for domain in domains)
    suspects = sums.ended_and_queued()
    still = set[str]()
    for page in client.ask(Ids(), IdLists) if suspects else ():
        still |= suspects & {*page.due, *page.waiting, *page.held}
    return suspected, still


def _write(account: Account, reader: LogReader, suspected: int, absent: str) -> None:
    queued = account.due + account.waiting + account.held
    click.echo(f"{reader.path}, {reader.files} file{'s' * (reader.files != 1)}")
    of_queued = f"due {account.due - suspected}, waiting {account.waiting}, held {account.held + suspected}"
    rows = (
        ("accepted", account.accepted, ""),
        ("delivered", account.delivered, ""),
        ("failed", account.failed, ""),
        ("queued", None if absent else queued, absent or of_queued),
        ("quarantined", account.quarantined, ""),
        ("unknown", account.unknown, ""),
    )
    for name, number, more in rows:
        click.echo(f"  {name:<12} {'?' if number is None else number:>12}  {more}".rstrip())
    earlier = account.earlier
    if total := earlier.delivered + earlier.failed + earlier.queued + earlier.quarantined:
        click.echo(
            f"Not in the sums: {total} accepted before the log begins (delivered {earlier.delivered}, "
            f"failed {earlier.failed}, queued {earlier.queued}, quarantined {earlier.quarantined})."
        )
    for number, text in (
        (account.undeliverable, "Reports that had no way to their sender, one P line each and no reception"),
        (account.unnamed, "Rows that cannot be read, nor whose they are; unknown deliveries may be among them"),
        (account.lost_rows, "Rows of the outbox in quarantine, whose lines the log lacks"),
        (account.unreadable, "Lines that are none of the main log, passed over"),
        (reader.torn, "Files that end in the middle of a line"),
    ):
        if number:
            click.echo(f"{text}: {number}")


def _write_findings(findings: list[Finding], everything: bool) -> None:
    for what, text in _TEXTS.items():
        ids = [finding.id for finding in findings if finding.what == what]
        for id_ in ids if everything else ids[:_SHOWN]:
            click.echo(f"{printable(id_)}  {text}")
        if len(ids) > _SHOWN and not everything:
            click.echo(f"... and {len(ids) - _SHOWN} more of this kind: --all shows them")


def _sentence(verdict: str, account: Account, settings: Settings) -> str:
    if verdict == "proven":
        return "proven: accepted = delivered + failed + queued + quarantined, and each ended once"
    if verdict == "disproved":
        from mcmt.eventlog.reconciliation import WRONG

        wrong = len({finding.id for finding in account.findings if finding.what in WRONG})
        return f"disproved: {wrong} {'delivery' if wrong == 1 else 'deliveries'}, named above"
    return (
        f"not proven: {account.unknown} {'delivery has' if account.unknown == 1 else 'deliveries have'} not ended, and "
        f"without the engine nobody knows whether they are in {settings.spool.path}: start it, and audit again"
    )
