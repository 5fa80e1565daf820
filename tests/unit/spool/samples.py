"""Messages and deliveries as intake would hand them over, and what tests ask of a spool in one line."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from mcmt.message.event import Event, Kind
from mcmt.message.failure import Failure
from mcmt.message.model import Delivery, Envelope, Message, NewDelivery, Part
from mcmt.spool.port import OwedReport, Settlement
from mcmt.spool.sqlite import SqliteSpool

DOMAIN = "apn.example.com"
NOW = 1_800_000_000.0
EXPIRES = NOW + 86_400.0
PLENTY = 1 << 30
_numbers = itertools.count(1)


def batch_id() -> str:
    """A batch id that no other message of this run has."""
    return f"{next(_numbers):012x}7000800000000000"[:12] + "700080000000"


def message(content: bytes = b'{"aps":{}}', batch: str | None = None, parts: int = 1, received: float = NOW) -> Message:
    """A message; its parts' contents end in their number."""
    return Message(
        batch_id=batch or batch_id(),
        received=received,
        envelope=Envelope("sender@example.com", ("user@" + DOMAIN,), "127.0.0.1", "c1"),
        header_block=b"Subject: hello\r\n",
        context={"DLV_Source_Addr": "sender"},
        parts=tuple(
            Part("message/vnd.msys.apn", (("apns-topic", "com.example.app"),), content + (b"%d" % n if n else b""))
            for n in range(parts)
        ),
        size=1000,
    )


def deliveries(count: int = 1, domain: str = DOMAIN, expires: float = EXPIRES, part: int = 0) -> list[NewDelivery]:
    """That many deliveries of one message."""
    return [NewDelivery(n, domain, f"user{n}@{domain}", f"{n:064x}", part, expires) for n in range(1, count + 1)]


def event(kind: Kind, id: str) -> Event:  # noqa: A002 - the word of the log lines
    """An event about a delivery."""
    return Event(kind=kind, time=NOW, id=id, domain=DOMAIN)


async def accept(spool: SqliteSpool, count: int = 1, domain: str = DOMAIN, **fields: object) -> str:
    """Accept a message with so many deliveries; its batch id."""
    kept = message(**fields)  # type: ignore[arg-type]  # a test's own words
    await spool.accept(kept, deliveries(count, domain), [event(Kind.RECEPTION, f"{kept.batch_id}-1")])
    return kept.batch_id


async def pull(spool: SqliteSpool, domain: str = DOMAIN, now: float = NOW, limit: int = 100) -> list[Delivery]:
    """What is due now."""
    return list((await spool.pull(domain, now, limit, PLENTY)).deliveries)


async def finish(spool: SqliteSpool, done: Sequence[Delivery]) -> None:
    """Settle deliveries as delivered."""
    await spool.settle([Settlement(one.row) for one in done], [event(Kind.DELIVERY, one.id) for one in done])


async def defer(spool: SqliteSpool, again: Sequence[Delivery], due: float) -> None:
    """Settle deliveries as due again."""
    await spool.settle(
        [Settlement(one.row, due, one.attempts + 1, "503 busy") for one in again],
        [event(Kind.TRANSIENT, one.id) for one in again],
    )


def failure(number: int = 1, time: float = NOW, path: str = "sender@example.com", **fields: Any) -> Failure:
    """A delivery of that number has failed for good."""
    known: dict[str, Any] = {
        "recipient": f"user{number}@{DOMAIN}",
        "token": f"{number:064x}",
        "channel": "apn",
        "code": "410",
        "text": "Unregistered",
        "status": "5.1.6",
        "remote_id": "",
        "remote_address": "127.0.0.1",
    }
    return Failure(number=number, time=time, return_path=path, **{**known, **fields})


async def fail(spool: SqliteSpool, dead: Sequence[Delivery], time: float = NOW, **fields: Any) -> None:
    """Settle deliveries as failed for good, each owed a report."""
    await spool.settle(
        [Settlement(one.row, failure=failure(one.number, time, **fields)) for one in dead],
        [event(Kind.PERMANENT, one.id) for one in dead],
    )


async def bounce(spool: SqliteSpool, owed: OwedReport) -> str:
    """Make a report as a message of one delivery; its batch id."""
    kept = message(b"a bounce")
    kept = msgspec.structs.replace(kept, envelope=Envelope("", (owed.return_path,)))
    await spool.report(owed, kept, deliveries(1), [event(Kind.RECEPTION, f"{kept.batch_id}-1")])
    return kept.batch_id


async def events(spool: SqliteSpool) -> list[Event]:
    """All that is in the outbox."""
    found: list[Event] = []
    after = 0
    while rows := await spool.read_outbox(after, 100):
        after = rows[-1].sequence
        found += [one for row in rows for one in row.events]
    return found
