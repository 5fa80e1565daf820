"""What a job says, as propeller-apns' worker read it."""

from __future__ import annotations

import json

import pytest

from mcmt.errors import MessageError
from mcmt.intake.beanstalkd.jobs import read_job

TOKEN = "a1" * 32
TUBE = "com.example.app"


def job(**values: object) -> bytes:
    return json.dumps({"token": TOKEN, "title": "T", "body": "Bü", "badge": 3, **values}).encode()


def test_a_job_is_sent_as_propellers_worker_sent_it() -> None:
    part = read_job(job(), TUBE)
    assert part.content == '{"aps":{"content-available":0,"alert":{"title":"T","body":"Bü"},"badge":3}}'.encode()
    assert part.headers == (
        ("x-device-token", TOKEN),
        ("apns-topic", TUBE),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
    )


def test_what_is_null_or_not_there_is_left_out_and_what_else_is_there_is_ignored() -> None:
    empty = b'{"aps":{"content-available":0,"alert":{}}}'
    assert read_job(job(title=None, body=None, badge=None), TUBE).content == empty
    assert read_job(job(title="", body="", badge=0, sound="x", more=[{}]), TUBE).content == empty
    assert read_job(b'{"token":"00"}', TUBE).content == empty
    assert b'"badge":12' in read_job(job(badge="12"), TUBE).content


def test_in_the_tube_of_nobody_the_topic_is_the_domains_own() -> None:
    assert "apns-topic" not in dict(read_job(job(), "default").headers)


NO_JOBS = [b"", b"no json", b"[]", b"null", b"{}", b'{"token": 1}', b"\xff", b"[" * 100_000]
NO_PUSHES: list[dict[str, object]] = [
    {"token": ""},
    {"token": "a,b"},
    {"token": None},
    {"title": 1},
    {"body": ["x"]},
    {"badge": 1.5},
    {"badge": True},
    {"badge": "many"},
    {"badge": "9" * 5000},
]


@pytest.mark.parametrize("body", [*NO_JOBS, *(job(**wrong) for wrong in NO_PUSHES)])
def test_what_cannot_be_sent_says_why(body: bytes) -> None:
    with pytest.raises(MessageError) as told:
        read_job(body, TUBE)
    assert told.value.code == 554
    assert told.value.text
