"""What the engine answers over the control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import pytest

from mcmt.config.rate import Rate
from mcmt.config.rules import Rule, RuleBook
from mcmt.control import answers
from mcmt.control.client import ControlClient
from mcmt.control.protocol import Queue
from mcmt.engine.rulings import Ruling
from mcmt.errors import SpoolError
from mcmt.message.event import Event, Kind
from mcmt.spool.port import Backlog, Entry, Settlement, Spool
from mcmt.spool.sqlite import SqliteSpool
from tests.unit.control.stand_ins import DOMAIN, Running, message, running, settings


async def accept(spool: SqliteSpool, number: int, received: float, deliveries: int = 1) -> None:
    made, new = message(number, received, deliveries)
    await spool.accept(made, new, ())


async def test_status_tells_of_the_engine_and_of_every_domain(control: Running, spool: SqliteSpool) -> None:
    now = control.clock.time()
    await accept(spool, 1, now - 60, deliveries=3)
    control.engine.resident = 2
    control.engine.domains = [
        {
            "domain": DOMAIN,
            "channel": "apn",
            "route": "apn://gateway.example.com",
            "state": "down",
            "reason": "connection refused",
            "connections": 0,
            "in_flight": 0,
            "ready": 2,
            "resident": 2,
        }
    ]
    control.clock.advance(30)
    client = await control.client()
    assert (await client.answer())["type"] == "hello"
    await client.ask({"do": "status"})
    engine, domain, end = await client.answers()
    assert end == {"type": "end"}
    assert engine["item"] | {"pid": 0, "version": ""} == {
        "version": "",
        "pid": 0,
        "uptime": 30.0,
        "config": str(control.path.parent / "mcmt.yaml"),
        "addresses": [["127.0.0.1", 2525], ["::1", 2525]],
        "listening": [["SMTP", "127.0.0.1", 2525], ["SMTP", "::1", 2525], ["HTTP", "127.0.0.1", 8025]],
        "sessions": 3,
        "spool": str(control.path.parent),
        "queued": 3,
        "held": 0,
        "owed": 0,
        "resident": 2,
        "quarantined": 0,
        "outbox_lag": 0.0,
        "workers": [4711],
        "missing": [],
        "webhooks": [],
        "telemetry": None,
        "stuck": False,
        "sources": [],
        "components": [],
    }
    assert domain["item"] == {
        "domain": DOMAIN,
        "channel": "apn",
        "route": "apn://gateway.example.com",
        "state": "down",
        "reason": "connection refused",
        "connections": 0,
        "in_flight": 0,
        "ready": 2,
        "held": 0,
        "queued": 3,
        "on_hold": 0,
        "oldest": 90.0,
        "next_due": 0.0,
        "until": None,
        "high": 0,
        "bulk": 0,
        "rules": [],
    }


async def test_status_tells_of_a_domain_that_rests_in_the_spool_alone(control: Running, spool: SqliteSpool) -> None:
    await accept(spool, 1, control.clock.time())
    client = await control.client()
    await client.answer()
    await client.ask({"do": "status"})
    domain = (await client.answers())[1]["item"]
    assert (domain["domain"], domain["state"], domain["route"]) == (DOMAIN, "idle", "apn://gateway.example.com")


async def test_the_lag_of_the_logs_is_the_age_of_the_oldest_event_without_a_line(
    control: Running, spool: SqliteSpool
) -> None:
    await spool.record([Event(kind=Kind.ROUTE, time=control.clock.time())])
    control.clock.advance(7)
    client = await control.client()
    await client.answer()
    await client.ask({"do": "status"})
    assert (await client.answers())[0]["item"]["outbox_lag"] == 7.0


@pytest.mark.parametrize(("limit", "expected"), [(None, 7), (5, 5), (3, 3), (100, 7)])
async def test_a_listing_goes_on_over_its_pages(
    control: Running, spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch, limit: int | None, expected: int
) -> None:
    monkeypatch.setattr(answers, "PAGE", 3)
    await accept(spool, 1, control.clock.time(), deliveries=7)
    client = await control.client()
    await client.answer()
    await client.ask({"do": "queue", "domain": DOMAIN, "limit": limit})
    found = await client.answers()
    assert [each["item"]["id"] for each in found[:-1]] == [f"{1:024x}-{each}" for each in range(1, expected + 1)]


async def test_a_listing_of_a_domain_without_deliveries_is_empty(control: Running) -> None:
    client = await control.client()
    await client.answer()
    await client.ask({"do": "queue", "domain": "nowhere.example.com"})
    assert await client.answers() == [{"type": "end"}]


class EndlessSpool:
    """Holds more than anyone can read."""

    def __init__(self, token: str = "t" * 2000) -> None:
        self.token = token
        self.pages = 0
        self.asked = asyncio.Event()

    async def browse(self, domain: str | None, after: int, limit: int) -> Sequence[tuple[int, Entry]]:
        self.pages += 1
        self.asked.set()
        entry = Entry(f"{after}-1", DOMAIN, "r", self.token, "s", 0.0, 0.0, 0.0, 0, "", 0, False)
        return [(after + number, entry) for number in range(1, limit + 1)]


async def test_a_listing_is_read_no_faster_than_the_client_reads_it(tmp_path: Path) -> None:
    spool = EndlessSpool()
    async with running(tmp_path / "control.sock", cast("Spool", spool)) as control:
        client = await control.client()
        await client.answer()
        await client.ask({"do": "queue"})
        await spool.asked.wait()
        # While another client is served a hundred times, a listing without back-pressure would go on and on.
        other = await control.client()
        await other.answer()
        for _ in range(100):
            await other.ask({"do": "queue", "limit": 0})
            await other.answers()
        assert spool.pages < 5


async def test_a_client_that_hangs_up_in_a_listing_ends_it_and_no_word_is_lost_on_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = EndlessSpool("t")
    async with running(tmp_path / "control.sock", cast("Spool", spool)) as control:

        def command(answers_read: int) -> None:
            with ControlClient(control.path) as client:
                items = client.ask_raw(Queue())
                for _ in range(answers_read):
                    next(items)

        for answers_read in range(0, 2000, 100):
            await asyncio.to_thread(command, answers_read)
        serving = [task for task in asyncio.all_tasks() if "ControlServer._serve" in repr(task.get_coro())]
        if serving:
            _, unfinished = await asyncio.wait(serving, timeout=5)
            assert not unfinished
    assert caplog.text == ""


async def test_show_finds_a_delivery_and_a_whole_batch(control: Running, spool: SqliteSpool) -> None:
    await accept(spool, 1, control.clock.time(), deliveries=3)
    (delivery, *_) = (await spool.pull(DOMAIN, control.clock.time(), 1, 10_000)).deliveries
    due = control.clock.time() + 30
    await spool.settle([Settlement(delivery.row, due, 1, "500 InternalServerError")], ())
    client = await control.client()
    await client.answer()
    await client.ask({"do": "show", "id": delivery.id})
    (one, _) = await client.answers()
    assert (one["item"]["due"], one["item"]["attempts"], one["item"]["last"]) == (due, 1, "500 InternalServerError")
    await client.ask({"do": "show", "id": f"{1:024x}"})
    assert len(await client.answers()) == 4


async def test_show_of_an_unknown_id_says_so_and_the_connection_goes_on(control: Running) -> None:
    client = await control.client()
    await client.answer()
    for _ in range(2):
        await client.ask({"do": "show", "id": "nothing"})
        (failed,) = await client.answers()
        assert (failed["code"], "nothing" in failed["text"]) == ("not_found", True)


class BrokenSpool:
    async def backlog(self, domain: str | None = None) -> Sequence[Backlog]:
        raise SpoolError("the disk is gone")


async def test_a_refusal_of_the_spool_is_told_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path / "control.sock", cast("Spool", BrokenSpool())) as control:
        client = await control.client()
        await client.answer()
        for _ in range(2):
            await client.ask({"do": "status"})
            assert await client.answers() == [{"type": "failed", "code": "spool", "text": "the disk is gone"}]


async def test_a_bug_in_an_answer_ends_that_connection_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path / "control.sock", cast("Spool", object())) as control:
        client = await control.client()
        await client.answer()
        await client.ask({"do": "status"})
        assert await client.answer() == {}
        assert (await (await control.client()).answer())["type"] == "hello"
    assert "could not be answered" in caplog.text


async def test_an_action_is_carried_out_and_answered_by_the_domain_as_it_is_then(control: Running) -> None:
    client = await control.client()
    await client.answer()
    await client.ask({"do": "suspend", "domain": DOMAIN, "reason": "maintenance"})
    item, end = await client.answers()
    assert (item["item"]["domain"], item["item"]["state"]) == (DOMAIN, "suspended by hand")
    assert end == {"type": "end"}
    await client.ask({"do": "resume", "domain": DOMAIN})
    item, _ = await client.answers()
    assert item["item"]["state"] == "idle"
    await client.ask({"do": "retry", "domain": DOMAIN})
    await client.answers()
    assert control.engine.retried == [DOMAIN]


async def test_an_action_that_is_refused_says_why(control: Running) -> None:
    client = await control.client()
    await client.answer()
    await client.ask({"do": "resume", "domain": DOMAIN})
    (failed,) = await client.answers()
    assert failed == {"type": "failed", "code": "refused", "text": f"{DOMAIN} is not suspended"}


async def test_the_rules_in_force_at_a_domain_are_told_with_what_they_set(control: Running) -> None:
    values = (("outbound_throttle_messages", Rate(10)), ("retry_interval", 77.0))
    rule = Rule(name="busy", codes=("429",), times=20, within=60.0, suspend=True, duration=600.0, values=values)
    given = settings(control.path)
    stanza = msgspec.structs.replace(given.domains[DOMAIN], rules=RuleBook([rule]))
    control.server.reload(msgspec.structs.replace(given, domains={DOMAIN: stanza}))
    now = control.clock.time()
    ruling = Ruling(DOMAIN, "busy", "20 answers within 60 s", now, now + 600, rule.fingerprint)
    control.engine.in_force[DOMAIN] = [(ruling, rule)]
    client = await control.client()
    await client.answer()
    await client.ask({"do": "domain", "domain": DOMAIN})
    detail = (await client.answers())[0]["item"]
    assert detail["status"]["rules"] == [
        {
            "rule": "busy",
            "effect": "suspend, outbound_throttle_messages 10/1, retry_interval 77.0",
            "reason": "20 answers within 60 s",
            "since": now,
            "until": now + 600,
            "options": ["outbound_throttle_messages", "retry_interval"],
        }
    ]
    assert (detail["status"]["state"], detail["status"]["reason"]) == (
        "suspended by a rule",
        "busy: 20 answers within 60 s",
    )
    assert detail["settings"]["retry_interval"] == 77.0
    assert detail["settings"]["outbound_throttle_messages"] == "10/1"
