"""Answers of a beanstalkd, and jobs: what is read does not depend on how it was split, and is bounded; a job is a push
that can be sent, or refused with a reason."""

from __future__ import annotations

import json

from mcmt.errors import MessageError
from mcmt.intake.beanstalkd.jobs import read_job
from mcmt.wire.beanstalk import LINE, STATS, Answer, AnswerParser, Reserved, Stats
from tests.fuzz.octets import Octets, cut

LONGEST = 4096
_BODY = 512


def run(data: bytes) -> None:
    octets = Octets(data)
    seed = octets.number(2)
    stream = octets.rest()
    found, fault = _answers([stream])
    assert _answers(cut(stream, seed)) == (found, fault)
    for answer in found:
        if isinstance(answer, Reserved):
            assert (answer.body is None) == (answer.size > _BODY)
            assert answer.body is None or len(answer.body) == answer.size
            _job(answer.body or b"")
        elif isinstance(answer, Stats):
            assert sum(map(len, answer.values)) <= STATS
        else:
            assert 0 < len(answer) < LINE
    _job(stream)


def _answers(pieces: list[bytes]) -> tuple[list[Answer], str]:
    parser = AnswerParser(_BODY)
    found: list[Answer] = []
    for piece in pieces:
        found += parser.receive(piece)
        assert parser.held < LINE + STATS
    return found, parser.fault


def _job(body: bytes) -> None:
    try:
        part = read_job(body, "com.example.app")
    except MessageError as reason:
        assert reason.code == 554
        return
    assert set(json.loads(part.content)["aps"]) <= {"content-available", "alert", "badge"}
