"""What is said on a connection, line by line, and what a server may answer."""

from __future__ import annotations

import json

import pytest

from tests.support.manual_clock import ManualClock
from tests.unit.intake.beanstalkd.conftest import ListJobs, Script, Source, Start

BODY = json.dumps({"token": "a1" * 32, "title": "T", "body": "B", "badge": 3})
RESERVED = (f"RESERVED 7 {len(BODY)}", BODY)
AT_ONCE = ["reserve-with-timeout 0"] * 16
NONE = ["TIMED_OUT"] * 16
STATS = "---\nid: 7\ntube: a\nstate: reserved\npri: 99\nage: 0\n"
TOLD = (f"OK {len(STATS)}", STATS)


async def begin(start: Start, script: Script, jobs: ListJobs | None = None, clock: ManualClock | None = None) -> Source:
    """A source whose server has just begun to wait for a job."""
    source = await start(script.port, jobs, clock)
    await script.greets()
    return source


async def test_the_whole_way_of_a_job(start: Start, script: Script) -> None:
    source = await begin(start, script)
    script.say(*RESERVED)
    # While a job is ours, nothing is asked that the server would wait with.
    await script.hears(*AT_ONCE, "delete 7")
    script.say(*NONE, "DELETED")
    await script.hears("reserve-with-timeout 20")
    assert len(source.jobs.tokens) == 1
    assert source.jobs.known == {}
    script.say("TIMED_OUT")
    await script.hears("reserve-with-timeout 20")


async def test_while_all_commands_bring_a_job_there_are_more_in_a_write(start: Start, script: Script) -> None:
    await begin(start, script)
    script.say(*RESERVED)
    await script.hears(*AT_ONCE, "delete 7")
    for number in range(8, 24):
        script.say(f"RESERVED {number} {len(BODY)}", BODY)
    script.say("DELETED")
    deleted = asked = 0
    while deleted < 16 or asked < 32:
        line = await script.reader.readline()
        deleted += line.startswith(b"delete ")
        asked += line == b"reserve-with-timeout 0\r\n"
    assert (deleted, asked) == (16, 32)


async def test_without_the_tube_of_nobody_nothing_is_ignored(start: Start, script: Script) -> None:
    await start(script.port, tubes={"default": "apn.example.com"})
    await script.connected()
    await script.hears("watch default", "reserve-with-timeout 20")


async def test_when_a_deadline_is_near_what_is_not_on_disk_is_touched(start: Start, script: Script) -> None:
    jobs = ListJobs()
    jobs.gate.clear()
    await begin(start, script, jobs, ManualClock())
    script.say(*RESERVED)
    await script.hears(*AT_ONCE)
    script.say("DEADLINE_SOON", *NONE[1:])
    await script.hears("touch 7")
    script.say("TOUCHED")
    jobs.gate.set()
    await script.hears("delete 7")


async def test_a_job_that_was_not_found_to_delete_is_known_when_it_comes_again(start: Start, script: Script) -> None:
    source = await begin(start, script)
    script.say(*RESERVED)
    await script.hears(*AT_ONCE, "delete 7")
    script.say(*NONE, "NOT_FOUND")
    await script.hears("reserve-with-timeout 20")
    script.say(*RESERVED)
    await script.hears("stats-job 7", *AT_ONCE)
    script.say(*TOLD, *NONE)
    await script.hears("delete 7", "reserve-with-timeout 20")
    script.say("DELETED")
    await source.until(lambda: not source.jobs.known)
    assert (len(source.jobs.tokens), source.status.repeated) == (1, 1)


async def test_a_job_that_comes_again_while_it_is_on_its_way_to_the_disk_is_kept_once(
    start: Start, script: Script
) -> None:
    jobs = ListJobs()
    jobs.gate.clear()
    await begin(start, script, jobs, ManualClock())
    script.say(*RESERVED)
    await script.hears(*AT_ONCE)
    script.say(*RESERVED, *NONE[1:])
    await jobs.waiting.wait()
    jobs.gate.set()
    await script.hears("delete 7")
    assert len(jobs.tokens) == 1


async def test_over_a_new_connection_what_was_kept_is_known(start: Start, script: Script) -> None:
    source = await begin(start, script)
    script.say(*RESERVED)
    await script.hears(*AT_ONCE, "delete 7")
    # The server did not come to it.
    script.writer.close()
    await script.greets()
    script.say(*RESERVED)
    await script.hears("stats-job 7")
    assert len(source.jobs.tokens) == 1


async def test_a_job_that_is_gone_when_it_is_asked_about_is_forgotten(start: Start, script: Script) -> None:
    source = await begin(start, script)
    script.say("RESERVED 8 1", "x")
    # What is to be buried keeps its priority, which the server is asked for.
    await script.hears(*AT_ONCE, "stats-job 8")
    script.say(*NONE, "NOT_FOUND")
    await script.hears("reserve-with-timeout 20")
    assert source.status.reserved == 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["OUT_OF_MEMORY"], "the server answered OUT_OF_MEMORY to RESERVE"),
        (["DRAINING"], "the server answered DRAINING to RESERVE"),
        (["INTERNAL_ERROR"], "INTERNAL_ERROR"),
        (["JOB_TOO_BIG"], "JOB_TOO_BIG"),
        (["DELETED"], "the server answered DELETED to RESERVE"),
        (["OK 0", ""], "the server answered Stats to RESERVE"),
        (["TIMED_OUT", "TIMED_OUT", "TIMED_OUT"], "TIMED_OUT"),
        (["HTTP/1.1 400 Bad Request"], "is no answer"),
        (["x" * 300], "has no end"),
        (["RESERVED 7 3", "abcd"], "another length"),
    ],
)
async def test_whatever_is_not_an_answer_to_what_was_asked_ends_the_connection(
    start: Start, script: Script, said: list[str], reason: str
) -> None:
    source = await begin(start, script, clock=ManualClock())
    script.say(*said)
    await script.ends()
    await source.until(lambda: source.status.state == "waiting")
    if said[0] != "TIMED_OUT":
        assert reason in source.status.reason


@pytest.mark.parametrize("greeted", [True, False])
async def test_a_server_that_says_nothing_is_left_and_tried_again(start: Start, script: Script, greeted: bool) -> None:
    clock = ManualClock()
    source = await start(script.port, clock=clock)
    if greeted:
        await script.greets()
        await source.until(lambda: source.status.state == "connected")
    else:
        await script.connected()
    clock.advance(29)
    assert source.status.state == ("connected" if greeted else "connecting")
    clock.advance(10)
    await script.ends()
    await source.until(lambda: source.status.state == "waiting")
    assert source.status.reason == "nothing was answered for 30 seconds"
    clock.advance(30)
    await script.connected()


async def test_tries_to_connect_come_later_each_time_and_not_all_in_one_moment(start: Start, script: Script) -> None:
    """As long as the server hangs up on everyone."""
    clock = ManualClock()
    source = await start(script.port, clock=clock)
    # Less up to half by chance.
    for longest in (1, 2, 4, 8, 16, 30, 30):
        await script.connected()
        script.writer.close()
        await source.until(lambda: source.status.state == "waiting")
        clock.advance(longest / 2 - 0.01)
        await source.until(lambda: True)
        assert source.status.state == "waiting"
        clock.advance(longest / 2 + 0.02)


async def test_a_drain_ends_a_connection_that_waits_for_a_job(start: Start, script: Script) -> None:
    source = await begin(start, script)
    await source.until(lambda: source.status.state == "connected")
    await source.doors.drain(20.0)
    assert await script.ends() == b""
