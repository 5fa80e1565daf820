"""Jobs of a real beanstalkd: kept, then deleted; what becomes of those that are not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Mapping

import pytest
from pystalkd.Beanstalkd import Connection

from mcmt.config.settings import INTAKE_COPIES, BeanstalkdSettings, IntakeSettings
from mcmt.errors import SpoolFull
from mcmt.intake import limits
from mcmt.intake.beanstalkd.source import Deal
from mcmt.message.event import Kind
from mcmt.spool.standing import Once
from tests.support.beanstalkd import Beanstalkd
from tests.unit.intake.beanstalkd.conftest import TUBE, ListJobs, Start
from tests.unit.intake.server import make_settings


def token(number: int) -> str:
    return f"{number:064x}"


def job(number: int = 1) -> str:
    return json.dumps({"token": token(number), "title": "T", "body": "B", "badge": 3})


def fill(server: Beanstalkd, numbers: range, tube: str = TUBE, ttr: int = 120) -> None:
    with server.client(tube) as client:
        for number in numbers:
            client.put(job(number), priority=7, ttr=ttr)


async def test_jobs_of_both_libraries_are_kept_and_deleted(server: Beanstalkd, start: Start) -> None:
    producer = Connection("127.0.0.1", server.port)
    producer.use(TUBE)
    producer.put(job(1))
    producer.close()
    fill(server, range(2, 700))
    source = await start(server.port)
    await source.until(lambda: not server.left(TUBE))
    assert sorted(source.jobs.tokens) == sorted(map(token, range(1, 700)))
    # Jobs of the least priority number first, as the server has them: greenstalk's are before pystalkd's.
    assert source.jobs.tokens[0] == token(2)
    last = source.jobs.accepted[-1]
    assert last.once.key == f"beanstalkd 127.0.0.1:{server.port} {TUBE} 1"
    envelope = last.message.envelope
    assert (envelope.protocol, envelope.peer, envelope.user) == ("beanstalkd", "127.0.0.1", TUBE)
    assert (envelope.reverse_path, envelope.forward_paths) == ("push@example.com", ("beanstalkd@apn.example.com",))
    assert envelope.connection_id.endswith("-1")
    (part,) = last.message.parts
    assert part.content == b'{"aps":{"content-available":0,"alert":{"title":"T","body":"B"},"badge":3}}'
    await source.until(lambda: not source.jobs.known)
    assert (source.status.state, source.status.taken, source.status.reserved) == ("connected", 699, 0)


async def test_a_job_with_a_delay_comes_when_it_is_due(server: Beanstalkd, start: Start) -> None:
    source = await start(server.port)
    with server.client(TUBE) as client:
        client.put(job(1), delay=1)
        client.put(job(2))
    await source.until(lambda: not server.left(TUBE))
    assert source.jobs.tokens == [token(2), token(1)]


async def test_nothing_is_deleted_before_it_is_on_disk(server: Beanstalkd, start: Start) -> None:
    jobs = ListJobs()
    jobs.gate.clear()
    source = await start(server.port, jobs)
    fill(server, range(1000))
    # So many at once and no more: the rest stays with the server.
    await source.until(lambda: server.stats(TUBE)["current-jobs-reserved"] == 500)
    assert server.stats(TUBE)["cmd-delete"] == 0
    assert source.status.reserved == 500
    jobs.gate.set()
    await source.until(lambda: not server.left(TUBE))
    assert sorted(jobs.tokens) == sorted(map(token, range(1000)))


async def test_a_job_whose_time_to_run_is_shorter_than_the_commit_is_touched(server: Beanstalkd, start: Start) -> None:
    jobs = ListJobs()
    jobs.gate.clear()
    source = await start(server.port, jobs)
    fill(server, range(3), ttr=1)
    await jobs.waiting.wait()
    await asyncio.sleep(2.5)  # the server's clock cannot be moved
    with server.client(TUBE) as client:
        assert [client.stats_job(number)["timeouts"] for number in (1, 2, 3)] == [0, 0, 0]
    jobs.gate.set()
    await source.until(lambda: not server.left(TUBE))
    assert sorted(jobs.tokens) == [token(0), token(1), token(2)]


async def test_while_the_spool_takes_nothing_jobs_stay_with_the_server(
    server: Beanstalkd, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SOURCE_PAUSE", 0.2)
    jobs = ListJobs()
    jobs.failure = SpoolFull("17 bytes are free")
    fill(server, range(400))
    source = await start(server.port, jobs)
    await source.until(lambda: server.stats(TUBE)["current-jobs-delayed"] and not source.status.reserved)
    assert (source.status.state, source.status.reason) == ("holding", "17 bytes are free")
    assert "17 bytes are free" in caplog.text
    asked = jobs.asked
    await source.until(lambda: jobs.asked > asked)
    # It was one that was tried.
    assert jobs.asked == asked + 1
    with server.client(TUBE) as client:
        assert {client.stats_job(number)["pri"] for number in range(1, 401)} == {7}
    jobs.failure = None
    await source.until(lambda: not server.left(TUBE))
    assert sorted(jobs.tokens) == sorted(map(token, range(400)))
    assert source.status.state == "connected"


async def test_what_cannot_be_sent_is_buried_with_a_warning_and_stops_nothing(
    server: Beanstalkd, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    source = await start(server.port, max_message_size=6000)
    with server.client(TUBE) as client:
        client.put("no json", priority=9)
        client.put(job(1))
        client.put(json.dumps({"token": token(2), "title": "x" * 5000}))
        client.put("x" * 6001)
        client.put(json.dumps({"token": "no hex"}))
        client.put(job(3))
    await source.until(lambda: not server.left(TUBE))
    assert source.jobs.tokens == [token(1), token(3)]
    found = server.stats(TUBE)
    assert (found["current-jobs-buried"], source.status.buried) == (4, 4)
    with server.client(TUBE) as client:
        assert (client.stats_job(1)["state"], client.stats_job(1)["pri"]) == ("buried", 9)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (
        f"beanstalkd 127.0.0.1:{server.port}, tube {TUBE}: job 1 is buried: the job cannot be read" in warning.message
    )
    await source.doors.drain(5.0)
    told = {(event.kind, event.protocol, event.phase) for event in source.spool.recorded}
    assert told == {(Kind.REJECTION, "beanstalkd", "job")}
    reasons = sorted(f"{event.code} {event.text}" for event in source.spool.recorded)
    assert [reason[:9] for reason in reasons] == ["552 5.3.4", "554 5.1.3", "554 5.3.4", "554 5.5.4"]
    assert "6001 bytes, and 6000 are taken (max_message_size)" in reasons[0]


async def test_when_memory_is_short_the_server_is_not_read_until_there_is_room(
    server: Beanstalkd, start: Start
) -> None:
    jobs = ListJobs()
    jobs.gate.clear()
    intake = IntakeSettings(max_intake_bytes=INTAKE_COPIES * 300_000)
    with server.client(TUBE) as client:
        for number in range(400):
            client.put(json.dumps({"token": token(number), "title": "T", "more": "x" * 3000}))
    source = await start(server.port, jobs, intake=intake)
    memory = source.doors.smtp.memory
    await source.until(lambda: memory.held > memory.limit - INTAKE_COPIES * 256 * 1024)
    assert memory.held <= memory.limit
    assert jobs.asked < 100
    jobs.gate.set()
    await source.until(lambda: not server.left(TUBE))
    assert sorted(jobs.tokens) == sorted(map(token, range(400)))


async def test_kicked_jobs_are_tried_again(server: Beanstalkd, start: Start) -> None:
    source = await start(server.port, max_message_size=10)
    fill(server, range(1))
    await source.until(lambda: server.stats(TUBE)["current-jobs-buried"] == 1)
    await source.doors.drain(5.0)
    source = await start(server.port)
    with server.client(TUBE) as client:
        client.kick(10)
    await source.until(lambda: not server.left(TUBE))
    assert source.jobs.tokens == [token(0)]


async def test_a_job_whose_domain_has_no_stanza_any_more_waits(server: Beanstalkd, start: Start) -> None:
    fill(server, range(2))
    source = await start(server.port, tubes={TUBE: "gone.example.com"})
    await source.until(lambda: server.stats(TUBE)["current-jobs-delayed"] == 2)
    with server.client(TUBE) as client:
        assert client.stats_job(1)["delay"] == 30
    assert source.jobs.asked == 0


def known(server: Beanstalkd, number: int, body: str, since: float) -> ListJobs:
    jobs = ListJobs()
    fingerprint = hashlib.blake2b(body.encode(), digest_size=16).digest()
    jobs.known[Once(f"beanstalkd 127.0.0.1:{server.port} {TUBE} {number}", fingerprint)] = since
    return jobs


async def test_a_job_that_is_kept_and_comes_again_is_deleted_and_not_sent_twice(
    server: Beanstalkd, start: Start
) -> None:
    fill(server, range(3))
    jobs = known(server, 2, job(1), time.time())
    source = await start(server.port, jobs)
    await source.until(lambda: not server.left(TUBE))
    assert jobs.tokens == [token(0), token(2)]
    assert source.status.repeated == 1
    await source.until(lambda: not jobs.known)


async def test_another_job_under_the_number_of_one_that_is_kept_is_kept_too(server: Beanstalkd, start: Start) -> None:
    """A server that lost its jobs begins to count anew."""
    fill(server, range(1))
    # The same body, and kept long before this one was put.
    jobs = known(server, 1, job(0), time.time() - 60)
    source = await start(server.port, jobs)
    await source.until(lambda: not server.left(TUBE))
    await source.doors.drain(5.0)
    fill(server, range(1, 2))
    # Another body.
    jobs.known |= known(server, 2, job(7), time.time()).known
    source = await start(server.port, jobs)
    await source.until(lambda: not server.left(TUBE))
    assert jobs.tokens == [token(0), token(1)]
    assert source.status.repeated == 0


async def test_a_drain_keeps_what_is_reserved_and_leaves_the_rest(server: Beanstalkd, start: Start) -> None:
    jobs = ListJobs()
    jobs.gate.clear()
    source = await start(server.port, jobs)
    fill(server, range(1000))
    await source.until(lambda: server.stats(TUBE)["current-jobs-reserved"] == 500)
    draining = asyncio.create_task(source.doors.drain(20.0))
    await asyncio.sleep(0)
    jobs.gate.set()
    await draining
    found = server.stats(TUBE)
    assert (found["current-jobs-reserved"], found["current-jobs-ready"]) == (0, 1000 - len(jobs.tokens))
    assert found["cmd-delete"] == len(jobs.tokens) < 1000
    assert jobs.known == {}


async def test_a_drain_does_not_wait_past_its_time_and_the_server_has_the_jobs_back(
    server: Beanstalkd, start: Start
) -> None:
    jobs = ListJobs()
    jobs.gate.clear()
    source = await start(server.port, jobs)
    fill(server, range(10))
    await source.until(lambda: server.stats(TUBE)["current-jobs-reserved"] == 10)
    draining = asyncio.create_task(source.doors.drain(0.1))
    await source.until(lambda: server.stats(TUBE)["current-jobs-ready"] == 10)
    jobs.gate.set()
    await draining


async def test_a_drain_does_not_wait_for_a_connection_that_does_not_come(
    server: Beanstalkd, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, asked = ListJobs(), asyncio.Event()

    async def keys(prefix: str) -> Mapping[Once, float]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError(prefix)

    monkeypatch.setattr(jobs, "keys", keys)
    source = await start(server.port, jobs)
    await asked.wait()
    async with asyncio.timeout(30):
        await source.doors.drain(600.0)


async def test_a_server_that_dies_and_comes_back_is_taken_from_again(
    server: Beanstalkd, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    source = await start(server.port)
    await source.until(lambda: source.status.state == "connected")
    server.kill()
    await source.until(lambda: source.status.state == "waiting")
    assert source.status.reason
    assert f"beanstalkd 127.0.0.1:{server.port}, tube {TUBE}: " in caplog.text
    server.start()
    fill(server, range(1))
    await source.until(lambda: source.jobs.tokens == [token(0)])
    assert source.status.state == "connected"


async def test_tubes_are_dealt_out_among_processes(server: Beanstalkd, start: Start) -> None:
    tubes = {f"tube{number}": "apn.example.com" for number in range(4)} | {"default": "apn.example.com"}
    sources = [await start(server.port, share=(number, 2), tubes=tubes) for number in range(2)]
    assert [[one.name for one in source.doors.sources] for source in sources] == [
        ["tube0", "tube2", "default"],
        ["tube1", "tube3"],
    ]
    for number, tube in enumerate(tubes):
        fill(server, range(number, number + 1), tube)
    await sources[0].until(lambda: sum(len(source.jobs.tokens) for source in sources) == 5)
    assert sources[0].jobs.tokens == [token(number) for number in (0, 2, 4)]


async def test_a_reload_begins_leaves_and_changes_tubes(server: Beanstalkd, start: Start) -> None:
    """What is being kept of a tube that goes is kept and deleted; a tube that stays is not touched."""
    domain = "apn.example.com"
    tubes = {"stays": domain, "goes": domain, "grows": domain}
    source = await start(server.port, tubes=tubes, max_message_size=1024)
    await source.until(lambda: {one.state for one in source.doors.sources} == {"connected"})
    source.jobs.gate.clear()
    fill(server, range(1), "goes")
    await source.jobs.waiting.wait()

    def go_on_by(tubes: Mapping[str, str], size: int) -> None:
        settings = BeanstalkdSettings(
            address=f"127.0.0.1:{server.port}",
            host="127.0.0.1",
            port=server.port,
            tubes=tubes,
            return_path="push@example.com",
            max_message_size=size,
        )
        source.doors.reload(source.doors.prepare(make_settings(beanstalkd=(settings,))))

    go_on_by({"grows": domain, "comes": domain, "stays": domain}, 64 * 1024)
    fill(server, range(1, 2), "goes")
    source.jobs.gate.set()
    await source.until(lambda: not source.jobs.known)
    for number, tube in enumerate(("comes", "grows", "stays"), start=2):
        fill(server, range(number, number + 1), tube)
    await source.until(lambda: len(source.jobs.tokens) == 4)
    assert set(source.jobs.tokens) == {token(number) for number in (0, 2, 3, 4)}
    assert {one.name for one in source.doors.sources} == {"comes", "grows", "stays"}
    go_on_by({}, 64 * 1024)
    await source.until(lambda: not source.doors.sources)
    go_on_by(tubes, 64 * 1024)
    await source.until(lambda: token(1) in source.jobs.tokens)


def test_a_tube_stays_with_its_process_and_one_that_comes_has_one_whichever_were_there() -> None:
    first = (("a:1", "one"), ("a:1", "two"), ("a:1", "three"))
    for tube in [*first, ("b:2", "later")]:
        assert sum(Deal(number, 3, first).mine(*tube) for number in range(3)) == 1
    assert [Deal(place, 3, first).mine(*tube) for place, tube in enumerate(first)] == [True] * 3
