"""While pulls read, nothing of what they may have seen is let in again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from mcmt.message.model import Delivery, Part, Sender
from mcmt.message.priority import NORMAL
from mcmt.spool.away import AS_IT_WAS, GONE, Away, Ledger
from mcmt.spool.pulls import Pulls
from mcmt.spool.reader import Reader, Request
from tests.unit.spool.samples import DOMAIN, NOW


class SlowReader(Reader):
    """Reads when it is let."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.gate = threading.Event()

    def run(self, requests: Sequence[Request]) -> None:
        self.reached.set()
        assert self.gate.wait(10)


async def test_what_is_settled_while_a_pull_reads_stays_out_until_it_has_read() -> None:
    ledger = Ledger()
    ledger.lanes(DOMAIN).lane(NORMAL).fresh = (0, 9)
    ledger.out = {row: Away(DOMAIN, 0, 1, 3, 1) for row in (1, 2, 3)}
    reader = SlowReader()
    with ThreadPoolExecutor(1) as thread:
        pulls = Pulls(reader, ledger, thread)
        asking = asyncio.create_task(pulls.ask(Request(DOMAIN, NOW, 10, 10)))
        assert await asyncio.to_thread(reader.reached.wait, 10)
        pulls.leave([(1, GONE), (2, AS_IT_WAS)])
        assert set(ledger.out) == {1, 2, 3}
        reader.gate.set()
        await asking
        assert set(ledger.out) == {3}
        assert ledger.lanes(DOMAIN).lane(NORMAL).take_returned(0, 10) == [(0, 2)]
        pulls.leave([(3, GONE)])
        assert not ledger.out


class Impatient(Ledger):
    """Has the caller cancelled in the turn of the loop in which its answer is on the way."""

    task: asyncio.Task[None]

    def come_back(self, rows: Iterable[tuple[int, int]]) -> None:
        asyncio.get_running_loop().call_soon(self.task.cancel)
        super().come_back(rows)


async def test_an_answer_that_nobody_waits_for_any_more_is_let_in_again() -> None:
    ledger = Impatient()
    reader = SlowReader()
    reader.gate.set()
    ledger.out = {1: Away(DOMAIN, 0, 1, 1, 1)}
    request = Request(DOMAIN, NOW, 10, 10)
    part, sender = Part("text/plain", (), b""), Sender("b", NOW, "", {})
    request.deliveries = (Delivery(1, 1, DOMAIN, "r", "t", 0, NOW, sender, part),)
    with ThreadPoolExecutor(1) as thread:
        ledger.task = asyncio.create_task(Pulls(reader, ledger, thread).ask(request))
        await asyncio.wait([ledger.task])
    assert ledger.task.cancelled()
    assert not ledger.out
