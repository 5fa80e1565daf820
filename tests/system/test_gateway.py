"""The door for old senders with the real process: binary frames in, HTTP/2 out, counted by the peers at both ends."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import EngineProcess, engine
from tests.support.mail_peers import Server, smtp_sink
from tests.support.old_node import UID, apple_certificate, old_node
from tests.support.old_sender import (
    ERLANG_PAYLOAD,
    ERLANG_TOKEN,
    Answer,
    OldSender,
    enhanced,
    read_feedback,
    simple,
    token,
)
from tests.support.simulator_process import Simulator, simulator
from tests.support.tls import Certificates
from tests.system.test_bounces import WHOLE, blocks, read, to_mail

DOMAIN = "apn.example.com"
MANY = 10_000
KILLS = 50 if os.environ.get("MCMT_LONG_KILLS") else 5


def gateway(certificates: Certificates, **options: Any) -> dict[str, Any]:
    """The stanza, on ports that the system chooses."""
    return {
        "listen": {
            "127.0.0.1:0": {
                "tls_certificate": str(certificates.server),
                "tls_key": str(certificates.server_key),
                "client_ca": str(certificates.ca),
                "feedback": "127.0.0.1:0",
                "return_path": "app@example.com",
                **({} if "domains" in options else {"domain": DOMAIN}),
                **options,
            }
        }
    }


def connect(process: EngineProcess, certificates: Certificates, port: int = 0) -> OldSender:
    address = ("127.0.0.1", port or process.gateway_port)
    return OldSender(address, certificates.ca, certificates.client, certificates.client_key)


def feedback(process: EngineProcess, certificates: Certificates) -> list[tuple[int, str]]:
    reader = connect(process, certificates, process.feedback_port)
    data = reader.rest()
    reader.finish()
    return read_feedback(data)


def push_all(process: EngineProcess, certificates: Certificates, frames: list[bytes]) -> list[Answer]:
    """As an old sender does it: what stands behind an error is sent again over a new connection. The errors, in order.

    The identifier of a frame is its index.
    """
    errors: list[Answer] = []
    begin = 0
    while (told := connect(process, certificates).push(frames[begin:])) is not None:
        errors.append(told)
        begin = told.identifier + 1
    return errors


def reported(sink: Server) -> list[str]:
    """The tokens in all reports so far."""
    mails = [path.read_bytes() for path in sink.messages_now()]
    return [block["x-device-token"] for mail in mails if WHOLE.search(mail) for block in blocks(read(mail)[1])]


def arrived(peer: Simulator, status: int) -> list[str]:
    return [each["token"] for each in peer.received if each["status"] == status]


@pytest.mark.parametrize("workers", [1, 2])
def test_of_ten_thousand_every_good_one_arrives_once_and_every_bad_one_is_told(
    tmp_path: Path, certificates: Certificates, workers: int
) -> None:
    chosen = random.Random(workers).sample(range(MANY), MANY // 100)
    malformed, dead = set(chosen[: MANY // 200]), set(chosen[MANY // 200 :])
    tokens = [f"dead410000{number:054x}" if number in dead else token(number) for number in range(MANY)]
    frames = [
        enhanced("ab" * (number % 30), number) if number in malformed else enhanced(tokens[number], number)
        for number in range(MANY)
    ]
    with simulator(tmp_path / "apple") as apple, smtp_sink() as sink:
        domains = {DOMAIN: apple.stanza, "*": to_mail(sink)}
        with engine(tmp_path, domains, apns_gateway=gateway(certificates), workers=workers) as process:
            errors = push_all(process, certificates, frames)
            process.wait_for("D", MANY - len(chosen), within=90)
            failed = process.wait_for("P", len(dead))
            process.wait(lambda: len(process.listing("tokens", "list", DOMAIN)) == len(dead))
            told = feedback(process, certificates)
            process.wait(lambda: feedback(process, certificates) == [])
            process.wait(lambda: len(reported(sink)) >= len(dead))
            assert Counter(reported(sink)) == Counter(tokens[number] for number in dead)
            assert process.stop() == 0
            receptions = [line for line in process.mainlog if line[4] == "R" and line[10] == "apns"]
        assert Counter(arrived(apple, 200)) == Counter(tokens[n] for n in range(MANY) if n not in malformed | dead)
        assert Counter(arrived(apple, 410)) == Counter(tokens[number] for number in dead)
    assert [(error.status, error.identifier) for error in errors] == [
        (5 if number % 30 else 2, number) for number in sorted(malformed)
    ]
    assert {tuple(line[-2:]) for line in failed} == {("410", "Unregistered")}
    assert Counter(name for _, name in told) == Counter(tokens[number] for number in dead), "told once each"
    assert all(abs(when - time.time()) < 600 for when, _ in told)
    assert sum(int(line[-1]) for line in receptions) == MANY - len(malformed)


def test_node_apn_pushes_hears_of_its_errors_and_reads_its_feedback(tmp_path: Path, certificates: Certificates) -> None:
    certificate, key = apple_certificate(tmp_path)
    good = [token(number) for number in range(300)]
    short, gone = "ab" * 20, "dead410000" + "7" * 54
    with simulator(tmp_path / "apple") as apple:
        stanza = gateway(certificates, client_ca=str(certificate), domains={UID: DOMAIN})
        with engine(tmp_path, {DOMAIN: apple.stanza}, apns_gateway=stanza, generate_bounces=False) as process:
            with old_node(process.gateway_port, certificates.ca, certificate, key) as node:
                node.say(*good[:100], short, *good[100:200], gone, *good[200:])
                events = node.until(lambda events: any(event["event"] == "error" for event in events))
                (told,) = [event for event in events if event["event"] == "error"]
                process.wait_for("D", len(good))
                process.wait_for("P", 1)
                process.wait(lambda: len(process.listing("tokens", "list", DOMAIN)) == 1)
                node.say(f"feedback {process.feedback_port}")
                events = node.until(lambda events: any(event["event"] == "feedback" for event in events))
                (answer,) = [event["tokens"] for event in events if event["event"] == "feedback"]
                process.wait(lambda: _told(process) == 1)
                node.say(f"feedback {process.feedback_port}")
                events = node.until(lambda events: sum(event["event"] == "feedback" for event in events) == 2)
            receptions = [line for line in process.mainlog if line[4] == "R"]
        assert Counter(arrived(apple, 200)) == Counter(good), "each once, those behind the error too"
        numbers = [json.loads(each["payload"])["number"] for each in apple.received]
        assert sorted(numbers) == [number for number in range(302) if number != 100]
    assert (told["code"], told["token"], told["number"]) == (5, short, 100)
    assert [name for _, name in answer] == [gone]
    assert events[-1]["tokens"] == [], "cleared when it was read"
    assert {line[10] for line in receptions} == {"apns"}


def _told(process: EngineProcess) -> int:
    return process.diagnostics.read_text().count("device tokens of apn.example.com told")


def test_the_erlang_snippet_of_a_blog_post_is_delivered(tmp_path: Path, certificates: Certificates) -> None:
    with simulator(tmp_path / "apple") as apple:
        stanza = gateway(certificates)
        with engine(tmp_path, {DOMAIN: apple.stanza}, apns_gateway=stanza, generate_bounces=False) as process:
            sender = connect(process, certificates)
            sender.send(simple(ERLANG_TOKEN, ERLANG_PAYLOAD))
            sender.close()
            process.wait_for("D")
        (push,) = apple.received
    assert (push["token"], push["payload"].encode(), push["status"]) == (ERLANG_TOKEN, ERLANG_PAYLOAD, 200)


def test_a_kill_loses_nothing_that_was_confirmed_and_takes_nothing_from_behind_an_error(
    tmp_path: Path, certificates: Certificates
) -> None:
    """A bad notification at the end confirms what stands before it. Killed at any moment of that, KILLS times."""
    chance = random.Random(9)
    confirmed: list[str] = []
    tried: list[list[str]] = []
    forbidden: set[str] = set()
    with simulator(tmp_path / "apple") as apple:
        stanza = {**apple.stanza, "retry_interval": "100ms"}
        process = EngineProcess(
            tmp_path / "engine", {DOMAIN: stanza}, apns_gateway=gateway(certificates), generate_bounces=False
        )
        try:
            for kill in range(KILLS):
                process.start()
                good = [token(kill * MANY + number) for number in range(chance.randrange(1, 3000))]
                behind = [token(kill * MANY + 5000 + number) for number in range(500)]
                frames = [enhanced(each, number) for number, each in enumerate([*good, "ab", *behind])]
                sender = connect(process, certificates)
                assert process.process is not None
                killer = threading.Timer(chance.random() * 0.06, process.process.kill)
                killer.start()
                told = sender.push(frames)
                killer.join()
                process.kill()
                assert told in (None, Answer(8, 5, len(good)))
                if told is not None:
                    confirmed += good
                tried.append(good)
                forbidden |= set(behind)
            process.start()
            process.wait(lambda: set(confirmed) <= set(arrived(apple, 200)), within=60)
            process.wait(lambda: not process.listing("queue", "list"), within=60)
            assert process.stop() == 0
        finally:
            if process.process is not None:
                process.kill()
        received = set(arrived(apple, 200))
    assert not received & forbidden
    for good in tried:
        taken = [each in received for each in good]
        assert taken == sorted(taken, reverse=True), "what was taken is what came first, without a gap"
    assert received <= {each for good in tried for each in good}
