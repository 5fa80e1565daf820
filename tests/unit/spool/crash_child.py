"""Accepts, defers and settles on a spool until it is killed, and reports each step before and after on stdout.

a <batch>   will be accepted           A <batch>   was accepted
s <id>      will be settled            S <id>      was settled
t <id>      will be deferred           T <id>      was deferred

Some are handed over as they are accepted, others are pulled. Some fail, and what is owed for that is reported: a
report's event names the failures that it tells.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mcmt.message.event import Kind
from mcmt.message.model import Delivery, Envelope
from mcmt.spool.port import Arrived
from mcmt.spool.sqlite import SqliteSpool, open_spool
from tests.unit.spool.samples import NOW, defer, deliveries, event, fail, finish, message, pull

RETRIES = 2


def tell(*lines: str) -> None:
    os.write(1, "".join(line + "\n" for line in lines).encode())


async def accept_for_ever(spool: SqliteSpool, run: str, task: int) -> None:
    for number in range(10_000_000):
        batch = f"{run}7000{task:08x}{number:08x}"
        kept = message(b"x" * (number * 37 % 3000), batch, parts=1 + number % 2)
        count = 1 + number % 4
        tell(f"a {batch}")
        await spool.accept(kept, deliveries(count), [event(Kind.RECEPTION, f"{batch}-{n + 1}") for n in range(count)])
        tell(f"A {batch}")


async def settle_for_ever(spool: SqliteSpool, handed: list[Delivery]) -> None:
    while True:
        found = await pull(spool, limit=20)
        found += handed
        handed.clear()
        again = [one for one in found if one.attempts < one.row % (RETRIES + 1)]
        done = [one for one in found if one not in again]
        dead = [one for one in done if one.row % 4 == 0 and one.sender.reverse_path]
        tell(*[f"t {one.id}" for one in again], *[f"s {one.id}" for one in done])
        await asyncio.gather(
            defer(spool, again, NOW), finish(spool, [one for one in done if one not in dead]), fail(spool, dead)
        )
        tell(*[f"T {one.id}" for one in again], *[f"S {one.id}" for one in done])


async def report_for_ever(spool: SqliteSpool, run: str) -> None:
    for number in range(10_000_000):
        # Some at once, and some before their message is finished, as when five minutes have passed.
        for owed in await spool.pull_reports(NOW + 1e6 * (number % 2), 10):
            told = [event(Kind.REJECTION, f"{owed.sender.batch_id}-{one.number}") for one in owed.failures]
            if number % 3 == 0:
                await spool.report(owed, None, (), told)
                continue
            batch = f"{run}7001{number:08x}{owed.key:08x}"
            kept = msgspec.structs.replace(message(b"a report", batch), envelope=Envelope("", (owed.return_path,)))
            tell(f"a {batch}")
            await spool.report(owed, kept, deliveries(1), [event(Kind.RECEPTION, f"{batch}-1"), *told])
            tell(f"A {batch}")
        await asyncio.sleep(0.001)


async def main() -> None:
    spool = await open_spool(Path(sys.argv[1]))
    run = f"{int(sys.argv[2]):04x}"
    handed: list[Delivery] = []

    def take(arrived: Mapping[str, Arrived]) -> None:
        for one in arrived.values():
            handed.extend(one.take(3, 10_000))

    spool.on_due(take)
    await asyncio.gather(
        *[accept_for_ever(spool, run, task) for task in range(10)],
        *[settle_for_ever(spool, handed) for _ in range(3)],
        report_for_ever(spool, run),
    )


if __name__ == "__main__":
    asyncio.run(main())
