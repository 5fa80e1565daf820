"""``mcmt simulate apns`` as a process: what it prints, what it does not, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from mcmt.message.route import parse_route
from mcmt.simulator.apns import ApnsSimulator
from mcmt.simulator.credentials import load_credentials

from .client import Client, provider_token

COMMAND = "from mcmt.cli.simulate import simulate; simulate()"


async def run(folder: Path, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        COMMAND,
        "apns",
        "--listen",
        "127.0.0.1:0",
        "--credentials",
        str(folder),
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )


async def lines(process: Process, count: int) -> list[str]:
    assert process.stdout is not None
    return [(await asyncio.wait_for(process.stdout.readline(), 20)).decode() for _ in range(count)]


def client(port: int, folder: Path) -> Client:
    return Client(cast(ApnsSimulator, SimpleNamespace(port=port)), load_credentials(folder))


async def test_the_printed_stanza_reaches_it_and_every_push_is_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    process = await run(folder, "--topic", "com.example.app")
    try:
        head = await lines(process, 13)
        stanza: dict[str, Any] = yaml.safe_load("".join(head[1:]))["domain"]["apn.example.com"]
        credentials = load_credentials(folder)
        assert stanza["tls_ca"] == str(credentials.ca)
        assert stanza["apn_auth_key"] == str(credentials.auth_key)
        assert (stanza["apn_key_id"], stanza["apn_team_id"]) == (credentials.key_id, credentials.team_id)
        token = provider_token(credentials, time.time())
        port = parse_route(stanza["routes"][0]).port
        assert port is not None
        async with client(port, folder) as apple:
            await apple.push("ab" * 32, authorization=token, topic=stanza["apn_topic"])
            await apple.push("dead410000".ljust(64, "0"), b'{"aps":"\x7f\xc2\x9b2J"}', authorization=token)
        taken, gone = await lines(process, 2)
        assert f" {'ab' * 32} com.example.app 200 OK " in taken
        assert taken.endswith('{"aps":{"alert":"hello"}}\n')
        assert " 410 Unregistered " in gone
        assert gone.endswith('{"aps":"\\x7F\\x9B2J"}\n')
        process.send_signal(signal.SIGINT)
        output, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, errors) == (0, b"")
    assert output.decode().splitlines() == [
        "2 pushes over 1 connections (at most 1 at a time, 1 streams on one)",
        "       1 200",
        "       1 410 Unregistered",
    ]
    printed = "".join([*head, taken, gone]) + output.decode()
    assert token not in printed
    assert "PRIVATE" not in printed


async def test_json_is_one_object_a_line_without_the_provider_token(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    process = await run(folder, "--json")
    try:
        (head,) = await lines(process, 1)
        token = provider_token(load_credentials(folder), time.time())
        async with client(json.loads(head)["port"], folder) as apple:
            await apple.push(authorization=token, extra=[("apns-priority", "5")])
        (pushed,) = await lines(process, 1)
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    push = json.loads(pushed)
    assert (push["event"], push["status"], push["token"]) == ("push", 200, "ab" * 32)
    assert push["headers"] == {"apns-topic": "com.example.app", "apns-priority": "5"}
    totals = json.loads(output)
    assert (totals["event"], totals["pushes"], totals["counts"]) == ("totals", 1, {"200": 1})
    assert token not in head + pushed + output.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--listen", "nowhere"), 2, "expected HOST:PORT"),
        (("--listen", "127.0.0.1:99999"), 2, "expected HOST:PORT"),
        (("--listen", "192.0.2.1:2197"), 1, "mcmt: cannot listen on 192.0.2.1:2197"),
        (("--rules", "/nowhere/rules.yaml"), 2, "mcmt: /nowhere/rules.yaml: cannot be read"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    arguments: tuple[str, ...], code: int, text: str, tmp_path: Path
) -> None:
    process = await run(tmp_path / "set", *arguments)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == code
    assert text in errors.decode()
    assert "Traceback" not in errors.decode()
