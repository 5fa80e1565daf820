"""The simulator of the binary gateway: what it takes, what it says, and what rules do to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import struct
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcmt.channel.plugins import load
from mcmt.message.event import Kind
from mcmt.simulator.binary import BinarySimulator
from mcmt.simulator.credentials import Credentials, load_credentials, make_credentials
from mcmt.simulator.rules import Rule
from tests.support.engine_bench import Bench
from tests.support.old_sender import PAYLOAD, Answer, OldSender, enhanced, items, read_feedback, simple, token

GONE = "dead410000".ljust(64, "1")


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return make_credentials(tmp_path_factory.mktemp("credentials") / "set")


async def connect(port: int, credentials: Credentials) -> OldSender:
    files = (credentials.ca, credentials.client_certificate, credentials.client_key)
    return await asyncio.to_thread(OldSender, ("127.0.0.1", port), *files)


async def push(simulator: BinarySimulator, credentials: Credentials, *frames: bytes) -> Answer | None:
    sender = await connect(simulator.port, credentials)
    return await asyncio.to_thread(sender.push, frames)


async def feedback(port: int, credentials: Credentials) -> list[tuple[int, str]]:
    reader = await connect(port, credentials)
    data = await asyncio.to_thread(reader.rest)
    reader.close()
    return read_feedback(data)


async def test_every_layout_is_taken_in_silence(credentials: Credentials) -> None:
    async with BinarySimulator(tls=credentials) as simulator:
        frames = [simple(token(1)), enhanced(token(2), 7, expiry=9), items(token(3), 8, priority=5)]
        assert await push(simulator, credentials, *frames) is None
        taken = [(each.token, each.apns_id, each.status) for each in simulator.received]
        assert taken == [(token(1), "", 200), (token(2), "7", 200), (token(3), "8", 200)]
        topic = {"apns-topic": "com.example.app"}
        assert [each.headers for each in simulator.received] == [
            topic,
            {**topic, "apns-expiration": "9"},
            {**topic, "apns-priority": "5"},
        ]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (enhanced("", 2), Answer(8, 2, 2)),
        (enhanced(token(2), 2, b""), Answer(8, 4, 2)),
        (enhanced(token(2), 2, b"[]"), Answer(8, 4, 2)),
        (enhanced("ab", 2), Answer(8, 5, 2)),
        (enhanced(token(2), 2, b'{"aps":"' + b"x" * 250 + b'"}'), Answer(8, 7, 2)),
        (items(token(2), 2, b'{"aps":"' + b"x" * 2048 + b'"}'), Answer(8, 7, 2)),
        (items(token(2), 2, priority=3), Answer(8, 128, 2)),
        (b"\x09", Answer(8, 128, 0)),
        (struct.pack(">BI", 2, 5) + b"\x03\x00\x04\x00\x00", Answer(8, 128, 0)),
        (simple("ab"), None),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_behind_it_is_taken(
    credentials: Credentials, bad: bytes, told: Answer | None
) -> None:
    async with BinarySimulator(tls=credentials) as simulator:
        assert await push(simulator, credentials, enhanced(token(1), 1), bad, enhanced(token(3), 3)) == told
        assert [each.token for each in simulator.received if each.status == 200] == [token(1)]


@pytest.mark.parametrize(
    ("rule", "told", "taken"),
    [
        (Rule(nth=2, answer="BadDeviceToken"), Answer(8, 8, 2), 1),  # type: ignore[arg-type]
        (Rule(nth=2, answer="InternalServerError"), Answer(8, 1, 2), 1),  # type: ignore[arg-type]
        (Rule(nth=2, answer="MissingTopic"), Answer(8, 3, 2), 1),  # type: ignore[arg-type]
        (Rule(nth=2, answer="418 Teapot"), Answer(8, 255, 2), 1),  # type: ignore[arg-type]
        (Rule(nth=3, answer="503 Shutdown"), Answer(8, 10, 2), 2),  # type: ignore[arg-type]
        (Rule(nth=3, goaway="all"), Answer(8, 10, 2), 2),  # type: ignore[arg-type]
        (Rule(nth=2, close=True), None, 1),  # type: ignore[arg-type]
        (Rule(nth=2, delay=0.2), None, 3),  # type: ignore[arg-type]
        (Rule(when="connect", close=True), None, 0),
    ],
)
async def test_rules_of_the_http_2_simulator_work_here(
    credentials: Credentials, rule: Rule, told: Answer | None, taken: int
) -> None:
    async with BinarySimulator(tls=credentials, rules=[rule]) as simulator:
        try:
            answer = await push(simulator, credentials, *[enhanced(token(number), number) for number in (1, 2, 3)])
        except OSError:
            answer = None
        assert answer == told
        await simulator.wait_for(taken)
        if rule.delay:
            await asyncio.sleep(2 * rule.delay)  # the sender has gone already; what it sent waits for the rule
        good = [each.token for each in simulator.received if each.status == 200]
        assert good == [token(number) for number in range(1, taken + 1)]


async def test_a_silent_gateway_takes_nothing_more_and_says_nothing(credentials: Credentials) -> None:
    async with BinarySimulator(tls=credentials, rules=[Rule(nth=2, silent=True)]) as simulator:  # type: ignore[arg-type]
        sender = await connect(simulator.port, credentials)
        await asyncio.to_thread(sender.send, *[enhanced(token(number), number) for number in (1, 2, 3)])
        await simulator.wait_for(2)
        answer = asyncio.ensure_future(asyncio.to_thread(sender.answer))
        done, _ = await asyncio.wait([answer], timeout=0.3)
        assert not done
        assert [each.reason for each in simulator.received] == ["", "no answer"]
        await simulator.aclose()
        assert await answer == Answer(8, 10, 1)


async def test_a_token_that_is_gone_is_taken_in_silence_and_told_by_the_feedback_service_once(
    credentials: Credentials,
) -> None:
    rule = Rule(token="00*2", answer="410 Unregistered", timestamp=1_700_000_000_000)
    async with BinarySimulator(tls=credentials, rules=[rule]) as simulator:
        frames = [enhanced(each, number) for number, each in enumerate([token(1), token(2), GONE, token(3)])]
        assert await push(simulator, credentials, *frames) is None
        assert [each.status for each in simulator.received] == [200, 410, 410, 200]
        told = await feedback(simulator.feedback_port, credentials)
        assert [each for _, each in told] == [token(2), GONE]
        assert told[0][0] == 1_700_000_000
        assert abs(told[1][0] - time.time()) < 60
        assert await feedback(simulator.feedback_port, credentials) == []


async def test_a_client_without_a_certificate_is_refused(credentials: Credentials) -> None:
    async with BinarySimulator(tls=credentials) as simulator:
        context = ssl.create_default_context(cafile=str(credentials.ca))
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port, ssl=context)
            writer.write(enhanced(token(1), 1))
            assert await reader.read() == b""
        assert simulator.total == 0


@pytest.mark.parametrize("as_json", [True, False])
async def test_as_a_command_it_says_where_it_listens_what_came_and_how_it_went(tmp_path: Path, as_json: bool) -> None:
    folder = tmp_path / "set"
    command = ["-c", "from mcmt.cli.simulate import simulate; simulate()", "apns", "--binary"]
    command += ["--listen", "127.0.0.1:0", "--feedback", "127.0.0.1:0", "--credentials", str(folder)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *(["--json"] if as_json else []),
        stdout=PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    try:
        await _command(process, folder, as_json)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _command(process: Process, folder: Path, as_json: bool) -> None:
    assert process.stdout is not None
    said = [(await asyncio.wait_for(process.stdout.readline(), 20)).decode()]
    if as_json:
        listening = json.loads(said[0])
        port, service = listening["port"], listening["feedback_port"]
        assert listening["routes"] == [f"apn://127.0.0.1:{port}?protocol=binary"]
    else:
        words = said[0].split()
        port, service = int(words[2].rpartition(":")[2].rstrip(",")), int(words[6].rstrip(";"))
    credentials = load_credentials(folder)
    sender = await connect(port, credentials)
    frames = [enhanced(GONE, 1), enhanced("ab", 2)]
    assert await asyncio.to_thread(sender.push, frames) == Answer(8, 5, 2)
    assert len(await feedback(service, credentials)) == 1
    process.send_signal(signal.SIGTERM)
    rest, _ = await asyncio.wait_for(process.communicate(), 20)
    lines: Sequence[str] = rest.decode().splitlines()
    if as_json:
        pushes, (totals,) = [json.loads(line) for line in lines[:2]], [json.loads(line) for line in lines[2:]]
        assert [(each["token"], each["status"], each["reason"]) for each in pushes] == [
            (GONE, 410, "Unregistered"),
            ("ab", 5, "Invalid Token Size"),
        ]
        assert totals["counts"] == {"5 Invalid Token Size": 1, "410 Unregistered": 1}
    else:
        assert any(line.endswith("Unregistered 1 " + '{"aps":{"alert":"Hello world."}}') for line in lines)
        assert "2 pushes over 1 connections (at most 1 at a time)" in lines


async def test_the_channel_delivers_to_it_and_hears_its_errors(tmp_path: Path, credentials: Credentials) -> None:
    tokens = [f"dead400000{number:054x}" if number in (3, 30, 60) else token(number) for number in range(100)]
    bad = {each for each in tokens if each.startswith("dead")}
    channel = load("apn")
    options = channel.Options.model_validate(
        {
            "tls_certificate": str(credentials.client_certificate),
            "tls_key": str(credentials.client_key),
            "tls_ca": str(credentials.ca),
            "delivery_response_timeout": "500ms",
        }
    )
    async with BinarySimulator(tls=credentials) as simulator:
        route = f"apn://localhost:{simulator.port}?protocol=binary"
        async with Bench(tmp_path, channel, routes=(route,), options=options) as bench:
            await bench.accept(
                100, token=lambda number: tokens[number - 1], content=PAYLOAD, media_type="message/vnd.msys.apn"
            )
            await bench.wait_for_events(97, Kind.DELIVERY, within=20.0)
            failed = await bench.wait_for_events(3, Kind.PERMANENT, within=20.0)
        taken = [each.token for each in simulator.received if each.status == 200]
    assert taken == [each for each in tokens if each not in bad], "once each, in order"
    assert {(event.token, event.code, event.text) for event in failed} == {(each, "8", "Invalid Token") for each in bad}
