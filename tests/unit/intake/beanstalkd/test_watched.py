"""What those who watch a domain are told of what is said with a beanstalkd."""

from __future__ import annotations

from mcmt.clock import SystemClock
from mcmt.wire.trace import LINES, Line
from tests.support.beanstalkd import Beanstalkd
from tests.support.watching import Watcher
from tests.unit.intake.beanstalkd.conftest import TUBE, Source, Start
from tests.unit.intake.beanstalkd.test_source import fill, job, token


def watch(source: Source, domain: str = "apn.example.com", *, bodies: bool = False) -> Watcher:
    watcher = Watcher(domain, SystemClock(), bodies=bodies)
    source.doors.smtp.reception.tracing.watched.update(watcher.tracing.watched)
    return watcher


async def test_commands_and_answers_are_shown_and_of_jobs_their_length(server: Beanstalkd, start: Start) -> None:
    source = await start(server.port)
    watcher, other = watch(source), watch(source, "other.example.com")
    with server.client(TUBE) as client:
        client.put(job(1))
        client.put("no job")
    await source.until(lambda: source.status.buried and not source.jobs.known)
    lines: list[Line] = []

    def said() -> bool:
        lines.extend(watcher.lines())
        return {"DELETED", "BURIED"} <= {line.text for line in lines}

    await source.until(said)
    assert (lines[0].what, lines[0].protocol, lines[0].peer) == ("session", "beanstalkd", "127.0.0.1")
    assert lines[0].text.endswith(f"tube {TUBE}")
    (kept, wrong) = [line for line in lines if line.what == "RESERVED"]
    assert (kept.way, kept.octets, kept.body) == ("received", len(job(1)), "")
    assert wrong.octets == len("no job")
    commands = [line.text for line in lines if line.what == "command"]
    assert {line.way for line in lines if line.what == "command"} == {"sent"}
    assert any(each.startswith("delete ") for each in commands)
    assert any(each.startswith("bury ") for each in commands)
    assert any(each.startswith("reserve-with-timeout ") for each in commands)
    assert any(("state", "reserved") in line.fields for line in lines if line.what == "stats")
    assert not other.lines()


async def test_a_job_is_shown_to_those_who_asked_for_bodies_without_its_token(server: Beanstalkd, start: Start) -> None:
    source = await start(server.port)
    watcher = watch(source, bodies=True)
    fill(server, range(1, 2))
    await source.until(lambda: source.jobs.tokens == [token(1)])
    (line,) = [line for line in watcher.lines() if line.what == "RESERVED"]
    assert '"title"' in line.body
    assert token(1) not in line.body


async def test_what_is_said_faster_than_it_is_read_is_counted(server: Beanstalkd, start: Start) -> None:
    fill(server, range(600))
    source = await start(server.port)
    watcher = watch(source)
    await source.until(lambda: len(source.jobs.tokens) == 600 and not source.jobs.known)
    told = watcher.tracing.fetch(watcher.watch)
    assert len(told.lines) <= LINES
    assert len(told.lines) + told.left_out >= 600
