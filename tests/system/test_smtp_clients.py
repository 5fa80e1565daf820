"""The listener, driven by clients that are not ours: smtplib, swaks, Postfix's smtp-source, Exim; behind HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import smtplib
from collections import Counter
from collections.abc import AsyncIterator
from email.message import EmailMessage
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.mail_peers import exim_client
from tests.support.peers import haproxy
from tests.unit.intake.server import MCMT, Server, start_server, stop_server

PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
RECIPIENT = "token@apn.example.com"


def tool(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found is not None, f"{name} is missing: run tests/peers.sh"
    return found


@contextlib.asynccontextmanager
async def serving(**listen: Any) -> AsyncIterator[Server]:
    """A listener by other options than the others'."""
    started = await start_server(**listen)
    try:
        yield started
    finally:
        await stop_server(started)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    started = await start_server()
    yield started
    await stop_server(started)


async def run(program: str, *arguments: str, stdin: bytes = b"") -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        tool(program),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(stdin), 30)
    return process.returncode, output.decode()


async def test_smtplib_sends_and_is_told_the_batch_id(server: Server) -> None:
    def send() -> tuple[int, bytes]:
        with smtplib.SMTP(*server.address) as client:
            client.ehlo()
            assert client.has_extn("pipelining")
            assert client.has_extn("enhancedstatuscodes")
            client.mail("app@example.com", ["SIZE=400", "BODY=8BITMIME"])
            client.rcpt(RECIPIENT)
            return client.data(MCMT)

    code, text = await asyncio.to_thread(send)
    ((message, _, _),) = server.spool.accepted
    assert (code, text) == (250, f"2.0.0 {message.batch_id} queued".encode())


async def test_smtplib_sends_an_internationalised_message(server: Server) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "grün@example.com", "größe@sink.example.com", "Grüße"
    message.set_content(".Punkt\n..Punkte\nGrüße")

    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP(*server.address) as client:
            return client.send_message(message)

    assert await asyncio.to_thread(send) == {}
    ((accepted, _, _),) = server.spool.accepted
    assert accepted.envelope.reverse_path == "grün@example.com"
    assert accepted.envelope.forward_paths == ("größe@sink.example.com",)
    assert b"\r\n.Punkt\r\n..Punkte\r\n" in accepted.parts[0].content


async def test_smtplib_learns_which_recipient_is_unknown(server: Server) -> None:
    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP(*server.address) as client:
            return client.sendmail("app@example.com", [RECIPIENT, "x@nowhere.example"], MCMT)

    refused = await asyncio.to_thread(send)
    assert refused["x@nowhere.example"][0] == 550
    assert refused["x@nowhere.example"][1].startswith(b"5.1.2 no route to nowhere.example")
    assert len(server.spool.accepted) == 1


@pytest.mark.parametrize("pipelining", [(), ("--pipeline",)])
async def test_swaks_sends_with_and_without_pipelining(server: Server, pipelining: tuple[str, ...]) -> None:
    host, port = server.address
    code, output = await run(
        "swaks",
        *("--server", f"{host}:{port}", "--from", "app@example.com", "--to", f"{RECIPIENT},u@apn.example.com"),
        *("--data", "-", *pipelining),
        stdin=MCMT.replace(b"\r\n", b"\n"),
    )
    assert code == 0, output
    ((message, deliveries, _),) = server.spool.accepted
    assert f"250 2.0.0 {message.batch_id} queued" in output
    assert [delivery.token for delivery in deliveries] == ["0a1b", "0a1b"]


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_swaks_dropping_the_connection_at_any_stage_leaves_nothing(server: Server, stage: str) -> None:
    host, port = server.address
    arguments = ("--server", f"{host}:{port}", "--from", "a@example.com", "--to", RECIPIENT)
    await run("swaks", *arguments, "--drop-after-send", stage)
    await run("swaks", *arguments, "--drop-after", stage)
    assert (await (await server.hello()).ask("NOOP")).startswith("250")
    assert not server.spool.accepted


@pytest.mark.parametrize("same_connection", [(), ("-d",)])
async def test_smtp_source_with_many_sessions_loses_nothing(
    server: Server, tmp_path: Path, same_connection: tuple[str, ...]
) -> None:
    host, port = server.address
    file = tmp_path / "message"
    file.write_bytes(MCMT.replace(b"\r\n", b"\n"))
    arguments = (
        *("-s", "20", "-m", "500", "-f", "app@example.com", "-t", RECIPIENT),
        *(*same_connection, "-F", str(file), f"inet:{host}:{port}"),
    )
    code, output = await run("smtp-source", *arguments)
    assert (code, output) == (0, "")
    assert len(server.spool.accepted) == 500
    assert len(Counter(message.batch_id for message, _, _ in server.spool.accepted)) == 500
    assert {message.parts[0].content for message, _, _ in server.spool.accepted} == {b'{"aps":{"alert":"hello"}}'}


async def test_smtp_source_with_many_recipients_and_large_messages(server: Server) -> None:
    host, port = server.address
    code, output = await run(
        "smtp-source",
        *("-s", "4", "-m", "20", "-l", "500000", "-r", "50", "-f", "a@example.com", "-t", "u@sink.example.com"),
        f"inet:{host}:{port}",
    )
    assert (code, output) == (0, "")
    assert len(server.spool.accepted) == 20
    assert {len(deliveries) for _, deliveries, _ in server.spool.accepted} == {50}
    assert all(message.size > 500_000 for message, _, _ in server.spool.accepted)


async def test_exim_sends_in_chunks(server: Server) -> None:
    """It uses CHUNKING wherever that is offered; a message of more than 8 KB comes in several."""
    lines = b"".join(b".%06d " % number + b"x" * 60 + b"\n" for number in range(500)) + b".\n"
    with exim_client(server.address[1]) as client:
        process = await asyncio.create_subprocess_exec(
            *client.command,
            "-f",
            "app@example.com",
            "-i",
            "one@sink.example.com",
            "two@sink.example.com",
            env=client.environment,
            stdin=asyncio.subprocess.PIPE,
        )
        await asyncio.wait_for(process.communicate(b"Subject: chunks\n\n" + lines), 30)
        log = client.log.read_text()
    ((message, _, _),) = server.spool.accepted
    assert message.envelope.forward_paths == ("one@sink.example.com", "two@sink.example.com")
    content = b"".join(part.content for part in message.parts)
    assert content.endswith(b"\r\n\r\n" + lines.replace(b"\n", b"\r\n"))
    # The log says K of a delivery by BDAT.
    assert log.count(" K C=") == 2, log


HERE = (ip_network("127.0.0.1/32"),)


async def test_haproxy_tells_in_both_versions_whose_the_connection_is(tmp_path: Path) -> None:
    """The client is at 127.0.0.7, HAProxy at 127.0.0.1. Its checks (LOCAL) find the server well: the second port would
    serve nobody otherwise."""

    def send(port: int, source: str) -> bytes:
        with smtplib.SMTP("127.0.0.1", port, timeout=20, source_address=(source, 0)) as client:
            client.ehlo()
            code, text = client.mail("app@example.com")
            if code != 250:
                return text
            client.rcpt(RECIPIENT)
            return client.data(MCMT)[1]

    async with serving(proxy_protocol=HERE, relay_hosts=(ip_network("127.0.0.7/32"),)) as server:
        front = contextlib.ExitStack()
        try:
            ports = await asyncio.to_thread(front.enter_context, haproxy(server.address[1], tmp_path))
            for port in ports:
                assert (await asyncio.to_thread(send, port, "127.0.0.7")).endswith(b"queued")
                said = await asyncio.to_thread(send, port, "127.0.0.8")
                assert said.startswith(b"5.7.1 127.0.0.8 may not submit here")
        finally:
            await asyncio.to_thread(front.close)
    assert [message.envelope.peer for message, _, _ in server.spool.accepted] == ["127.0.0.7"] * 2


async def test_swaks_tells_by_xclient_and_by_proxy_headers_whose_the_message_is() -> None:
    async with serving(authorized_xclient_hosts=HERE, proxy_protocol=(ip_network("127.0.0.2/32"),)) as server:
        host, port = server.address
        common = ("--server", f"{host}:{port}", "--from", "app@example.com", "--to", RECIPIENT, "--data", "-")
        told = (
            "--xclient-addr",
            "192.0.2.7",
            "--xclient-name",
            "a.example",
            "--xclient-delim",
            "--xclient-login",
            "app 1",
        )
        code, said = await run("swaks", *common, *told, stdin=MCMT)
        assert code == 0, said
        ends = (
            "--proxy-source",
            "192.0.2.8",
            "--proxy-source-port",
            "40000",
            "--proxy-dest",
            host,
            "--proxy-dest-port",
        )
        for version, family in (("1", "TCP4"), ("2", "AF_INET")):
            how = ("--local-interface", "127.0.0.2", "--proxy-version", version, "--proxy-family", family)
            _, said = await run("swaks", *common, *how, *ends, "25", "--proxy-protocol", "STREAM", stdin=MCMT)
            assert "550 5.7.1 192.0.2.8 may not submit here" in said, said
    ((message, _, _),) = server.spool.accepted
    assert (message.envelope.peer, message.envelope.user) == ("192.0.2.7", "app 1")
