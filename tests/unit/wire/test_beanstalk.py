"""beanstalkd's protocol octet by octet: what beanstalkd 1.12 says, and what no server should."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.wire import beanstalk
from mcmt.wire.beanstalk import LINE, STATS, Answer, AnswerParser, Reserved, Stats

STATS_JOB = (
    b"---\nid: 2\ntube: a\nstate: reserved\npri: 7\nage: 0\ndelay: 0\nttr: 120\ntime-left: 119\nfile: 0\nreserves: 1\n"
    b"timeouts: 0\nreleases: 0\nburies: 0\nkicks: 0\n"
)
"""As beanstalkd 1.12 wrote it."""
VALUES = {"id": "2", "tube": "a", "state": "reserved", "pri": "7", "age": "0", "delay": "0", "ttr": "120"}
VALUES |= {"time-left": "119", "file": "0", "reserves": "1"}
VALUES |= dict.fromkeys(("timeouts", "releases", "buries", "kicks"), "0")
DIALOGUE = (
    b"WATCHING 2\r\nWATCHING 1\r\nRESERVED 2 3\r\nabc\r\nTIMED_OUT\r\nDEADLINE_SOON\r\n"
    + b"OK %d\r\n%b\r\n" % (len(STATS_JOB), STATS_JOB)
    + b"TOUCHED\r\nDELETED\r\nNOT_FOUND\r\nRESERVED 18446744073709551615 0\r\n\r\nRELEASED\r\nBURIED\r\nBURIED 7\r\n"
    b"RESERVED 9 6\r\n\r\nOK 1\r\nDRAINING\r\nOUT_OF_MEMORY\r\nUNKNOWN_COMMAND\r\n"
)
ANSWERS: list[Answer] = [
    "WATCHING",
    "WATCHING",
    Reserved(2, 3, b"abc"),
    "TIMED_OUT",
    "DEADLINE_SOON",
    Stats(VALUES),
    "TOUCHED",
    "DELETED",
    "NOT_FOUND",
    Reserved(2**64 - 1, 0, b""),
    "RELEASED",
    "BURIED",
    "BURIED",
    Reserved(9, 6, b"\r\nOK 1"),
    "DRAINING",
    "OUT_OF_MEMORY",
    "UNKNOWN_COMMAND",
]


def read(data: bytes, cuts: list[int] | None = None, max_body: int = 65536) -> tuple[list[Answer], str]:
    parser = AnswerParser(max_body)
    edges = [0, *sorted(cuts or []), len(data)]
    found = [one for start, stop in itertools.pairwise(edges) for one in parser.receive(data[start:stop])]
    return found, parser.fault


def test_a_dialogue_is_read_whole_and_octet_by_octet() -> None:
    assert read(DIALOGUE) == (ANSWERS, "")
    assert read(DIALOGUE, list(range(len(DIALOGUE)))) == (ANSWERS, "")


@given(st.lists(st.integers(0, len(DIALOGUE))))
def test_wherever_it_is_split(cuts: list[int]) -> None:
    assert read(DIALOGUE, cuts) == (ANSWERS, "")


@pytest.mark.parametrize("end", range(len(DIALOGUE)))
def test_of_what_is_cut_off_all_that_is_whole_is_told(end: int) -> None:
    found, fault = read(DIALOGUE[:end])
    assert found == ANSWERS[: len(found)]
    assert fault == ""


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_body_that_is_too_large_is_read_past_and_never_held(step: int) -> None:
    data = b"RESERVED 5 1000\r\n" + b"\r\n" * 500 + b"\r\nDELETED\r\n"
    parser = AnswerParser(999)
    found = []
    for start in range(0, len(data), step):
        found += parser.receive(data[start : start + step])
        assert parser.held < LINE + step
    assert (found, parser.fault) == ([Reserved(5, 1000, None), "DELETED"], "")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"RESERVED 5 3\r\nabcd\r\n", "another length"),
        (b"RESERVED 5 3\r\nabc\n\n", "another length"),
        (b"RESERVED 5 1000\r\n" + b"x" * 1001 + b"\r\n", "another length"),
        (b"RESERVED -5 3\r\n", "is no answer"),
        (b"RESERVED 5 99999999999\r\n", "is no answer"),
        (b"RESERVED 5\xff 3\r\n", "is no answer"),
        (b"OK %d\r\n" % (STATS + 1), "statistics of"),
        (b"\r\n", "is no answer"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is no answer"),
        (b"220 mx.example.com ESMTP\r\n", "is no answer"),
        (b"\x16\x03\x01\r\n", "is no answer"),
        (b"A" * LINE, "has no end"),
    ],
)
def test_what_is_no_answer_is_a_fault_and_nothing_behind_it_is_read(data: bytes, fault: str) -> None:
    parser = AnswerParser(999)
    assert parser.receive(b"DELETED\r\n" + data + b"DELETED\r\n") == ["DELETED"]
    assert fault in parser.fault
    assert (parser.receive(b"DELETED\r\n"), parser.held) == ([], 0)


def test_commands() -> None:
    written = [
        beanstalk.watch("com.example.app"),
        beanstalk.ignore("default"),
        beanstalk.reserve(20),
        beanstalk.delete(2**64 - 1),
        beanstalk.touch(1),
        beanstalk.release(2, 2**31, 30),
        beanstalk.bury(3, 120),
        beanstalk.stats_job(4),
    ]
    assert written == [
        b"watch com.example.app\r\n",
        b"ignore default\r\n",
        b"reserve-with-timeout 20\r\n",
        b"delete 18446744073709551615\r\n",
        b"touch 1\r\n",
        b"release 2 2147483648 30\r\n",
        b"bury 3 120\r\n",
        b"stats-job 4\r\n",
    ]


@pytest.mark.parametrize("name", ["com.ex.app", "A+/;.$_()-9", "x" * 200])
def test_names_of_tubes(name: str) -> None:
    assert beanstalk.is_tube(name)


@pytest.mark.parametrize("name", ["x" * 201, "", "-a", "a b", "a\r\n", "ä"])
def test_what_is_no_name_of_a_tube(name: str) -> None:
    assert not beanstalk.is_tube(name)
