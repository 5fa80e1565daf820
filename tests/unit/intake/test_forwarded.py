"""Clients that come through a proxy: PROXY headers and XCLIENT, over real sockets from several loopback addresses."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcmt.config.settings import IntakeSettings
from mcmt.errors import MessageError
from tests.support.manual_clock import ManualClock
from tests.support.tls import Certificates
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import Client, Server, make_settings
from tests.unit.wire.test_proxy import FOUR, block

PROXY = (ip_network("127.0.0.9/32"),)
RELAY = (ip_network("192.0.2.7/32"), ip_network("127.0.0.9/32"))
V1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n"
V2 = block(0x21, 0x11, FOUR)
LOCAL = block(0x20, 0x00, b"")


async def connect(server: Server, source: str = "127.0.0.9", header: bytes = b"") -> Client:
    reader, writer = await asyncio.open_connection(*server.address, local_addr=(source, 0))
    client = Client(reader, writer)
    server.clients.append(client)
    client.send(header)
    return client


async def greeted(server: Server, source: str = "127.0.0.9", header: bytes = b"") -> Client:
    client = await connect(server, source, header)
    assert (await client.reply()).startswith("220 ")
    return client


async def send(client: Client) -> str:
    """One message; the last reply."""
    for command in ("EHLO x", "MAIL FROM:<app@example.com>", "RCPT TO:<t@sink.example.com>", "DATA"):
        if not (reply := await client.ask(command)).startswith(("2", "3")):
            return reply
    return await client.ask("Subject: x\r\n.")


def peers(server: Server) -> list[str]:
    return [message.envelope.peer for message, _, _ in server.spool.accepted]


def few(most: int) -> Any:
    return msgspec.structs.replace(make_settings(), intake=IntakeSettings(max_connections_per_address=most))


# -- the PROXY protocol ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("size", [1, 1000])
async def test_the_client_is_whom_the_header_tells(serve: Serve, header: bytes, size: int) -> None:
    server = await serve(proxy_protocol=PROXY, relay_hosts=(ip_network("192.0.2.7/32"),))
    client = await connect(server)
    for at in range(0, len(header), size):
        client.send(header[at : at + size])
        await client.writer.drain()
    assert (await client.reply()).startswith("220 ")
    assert (await send(client)).endswith("queued\r\n")
    assert peers(server) == ["192.0.2.7"]


async def test_the_proxys_own_right_to_submit_is_not_its_clients(serve: Serve) -> None:
    server = await serve(proxy_protocol=PROXY, relay_hosts=PROXY)
    client = await greeted(server, header=V1)
    assert (await send(client)).startswith("550 5.7.1 192.0.2.7 may not submit here")
    # A check of its own is the proxy's; so is a connection of which it does not know whose it is.
    for header in (LOCAL, b"PROXY UNKNOWN\r\n"):
        assert (await send(await greeted(server, header=header))).endswith("queued\r\n")
    assert peers(server) == ["127.0.0.9"] * 2


async def test_commands_right_behind_the_header_are_heard(serve: Serve) -> None:
    server = await serve(proxy_protocol=PROXY)
    client = await connect(server, header=V2 + b"EHLO x\r\nQUIT\r\n")
    client.writer.write_eof()
    said = (await client.rest()).splitlines()
    assert [said[0][:3], said[1][:3], said[-1][:3]] == ["220", "250", "221"]


async def test_nothing_is_said_to_a_proxy_before_its_header(serve: Serve) -> None:
    server = await serve(proxy_protocol=PROXY)
    silent = await connect(server, header=V1[:-1])
    await greeted(server, header=V1)
    assert not silent.reader._buffer  # type: ignore[attr-defined]  # nothing has come
    silent.send(b"\n")
    assert (await silent.reply()).startswith("220 ")


@pytest.mark.parametrize("sent", [b"EHLO x\r\n", b"PROXY TCP4 nobody nowhere 1 2\r\n", block(0x21, 0x12, FOUR)])
async def test_a_listed_proxy_without_a_header_is_dropped_with_a_word_to_the_operator(
    serve: Serve, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    server = await serve(proxy_protocol=PROXY)
    with caplog.at_level(logging.WARNING):
        assert await (await connect(server, header=sent)).rest() == ""
        assert await (await connect(server, header=sent)).rest() == ""
    (record,) = caplog.records
    assert record.getMessage().startswith("1 connections dropped for want of a PROXY header (proxy_protocol), the last")
    assert "127.0.0.9" in record.getMessage()
    assert server.listener.sessions == 0


async def test_a_header_that_does_not_come_in_time_is_waited_for_no_longer(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    server = await serve(clock=clock, proxy_protocol=PROXY)
    client = await connect(server, header=V1[:-1])
    other = await greeted(server, "127.0.0.1")
    clock.advance(4.9)
    await other.ask("NOOP")
    assert server.listener.sessions == 2
    clock.advance(0.2)
    assert await client.rest() == ""
    assert "it did not come within 5 seconds" in caplog.text
    # A session that has begun has its own deadlines.
    late = await greeted(server, header=V1)
    clock.advance(20)
    assert (await late.ask("NOOP")).startswith("250")


async def test_a_check_that_hangs_up_is_no_word_to_the_operator(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = await serve(proxy_protocol=PROXY)
    for header in (b"", V1[:5]):
        client = await connect(server, header=header)
        client.writer.write_eof()
        assert await client.rest() == ""
    assert caplog.records == []


@pytest.mark.parametrize("header", [V1, V2])
async def test_a_header_of_anybody_else_is_a_bad_command(serve: Serve, header: bytes) -> None:
    server = await serve(proxy_protocol=PROXY, relay_hosts=RELAY)
    header = header.removesuffix(b"\r\n") + b"\r\n"
    client = await greeted(server, "127.0.0.8", header)
    for _ in range(header.count(b"\n")):
        assert (await client.reply()).startswith("500 ")
    assert (await send(client)).startswith("550 5.7.1 127.0.0.8 may not submit here")
    # Nor is it heard a second time, of a proxy.
    client = await greeted(server, header=V2 + V1)
    assert (await client.reply()).startswith("500 ")


async def test_connections_count_for_the_client_and_not_for_the_proxy(serve: Serve) -> None:
    server = await serve(settings=few(2), proxy_protocol=PROXY)
    first = [await greeted(server, header=V1) for _ in range(2)]
    one_more = await connect(server, header=V1)
    assert (await one_more.rest()).startswith("421 4.7.0 2 connections are open from your address")
    one_more.close()
    other = V1.replace(b"192.0.2.7", b"192.0.2.8")
    for _ in range(2):
        await greeted(server, header=other)
    # What waits for its header counts for nobody, and in the whole.
    waiting = [await connect(server) for _ in range(5)]
    await greeted(server, "127.0.0.1")
    while server.listener.sessions != 10:
        await asyncio.sleep(0)
    for client in (*first, *waiting):
        client.close()
    while server.listener.sessions > 3:
        await asyncio.sleep(0)
    for _ in range(2):
        await greeted(server, header=V1)


async def test_the_header_stands_before_tls_and_failures_to_log_in_are_the_clients(
    serve: Serve, certificates: Certificates, users_file: Path
) -> None:
    intake = IntakeSettings(auth_failures_per_address=1)
    clock = ManualClock()
    server = await serve(
        clock=clock,
        settings=msgspec.structs.replace(make_settings(), intake=intake),
        proxy_protocol=PROXY,
        relay_hosts=(),
        tls_certificate=certificates.server,
        tls_key=certificates.server_key,
        users_file=users_file,
    )

    async def log_in(header: bytes) -> str:
        client = await greeted(server, header=header)
        await client.ask("EHLO x")
        await client.secure()
        return await client.ask("AUTH PLAIN AGFwcABzZWNyZXQ=")

    logins = server.listener._doors[0].logins
    assert logins is not None
    logins.failures.spend("192.0.2.7")
    assert (await log_in(V1)).startswith("421 4.7.0 ")
    assert (await log_in(V1.replace(b"192.0.2.7", b"192.0.2.8"))).startswith("235 ")


# -- XCLIENT -----------------------------------------------------------------------------------------------------------


async def test_xclient_is_offered_to_who_is_listed_and_refused_to_others(serve: Serve) -> None:
    server = await serve(authorized_xclient_hosts=PROXY)
    client = await greeted(server)
    offered = "250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n"
    assert (await client.ask("EHLO x")).splitlines(keepends=True)[1] == offered
    stranger = await greeted(server, "127.0.0.8")
    assert "XCLIENT" not in await stranger.ask("EHLO x")
    assert (await stranger.ask("XCLIENT ADDR=192.0.2.7")).startswith("550 5.7.1 127.0.0.8 may not speak for others")
    plain = await serve()
    assert (await (await plain.hello()).ask("XCLIENT ADDR=192.0.2.7")).startswith("550 5.7.1 ")


async def test_the_client_is_whom_xclient_tells_and_the_session_begins_anew(serve: Serve) -> None:
    server = await serve(authorized_xclient_hosts=PROXY, relay_hosts=(ip_network("192.0.2.7/32"),))
    client = await greeted(server)
    await client.ask("EHLO x")
    assert (
        await client.ask("XCLIENT NAME=client.example.com ADDR=192.0.2.7 PORT=40000")
    ) == "220 mx.example.com ESMTP mcmt\r\n"
    assert (await client.ask("MAIL FROM:<a@b.c>")).startswith("503 5.5.1 send EHLO first")
    assert (await send(client)).endswith("queued\r\n")
    # Another client in the same session: what XCLIENT tells does not take away the right to it.
    assert (await client.ask("XCLIENT ADDR=IPV6:2001:db8::1")).startswith("220 ")
    assert (await send(client)).startswith("550 5.7.1 2001:db8::1 may not submit here")
    assert (await client.ask("XCLIENT ADDR=[UNAVAILABLE]")).startswith("220 ")
    assert (await send(client)).startswith("550 5.7.1 unknown may not submit here")
    assert peers(server) == ["192.0.2.7"]


async def test_helo_proto_and_login_stay_told_until_others_are(serve: Serve) -> None:
    server = await serve(authorized_xclient_hosts=PROXY, relay_hosts=())
    client = await greeted(server)
    await client.ask("EHLO x")
    assert (await client.ask("XCLIENT HELO=client PROTO=ESMTP LOGIN=app+2Bpush")).startswith("220 ")
    assert (await client.ask("XCLIENT ADDR=192.0.2.7")).startswith("220 ")
    assert (await client.ask("MAIL FROM:<app@example.com> SIZE=9")).startswith("250 ")
    assert (await client.ask("XCLIENT ADDR=192.0.2.8")).startswith("503 5.5.1 not within a transaction")
    assert (await client.ask("RSET")).startswith("250 ")
    assert (await send(client)).endswith("queued\r\n")
    ((message, _, _),) = server.spool.accepted
    assert (message.envelope.user, message.envelope.peer) == ("app+push", "192.0.2.7")
    assert (await client.ask("XCLIENT LOGIN=[UNAVAILABLE]")).startswith("220 ")
    assert (await send(client)).startswith("550 5.7.1 192.0.2.7 may not")


async def test_a_login_told_in_clear_does_not_outlive_starttls(serve: Serve, certificates: Certificates) -> None:
    server = await serve(
        authorized_xclient_hosts=PROXY,
        relay_hosts=(),
        tls_certificate=certificates.server,
        tls_key=certificates.server_key,
    )
    client = await greeted(server)
    await client.ask("EHLO x")
    assert (await client.ask("XCLIENT LOGIN=app")).startswith("220 ")
    await client.ask("EHLO x")
    await client.secure()
    assert (await client.ask("MAIL FROM:<app@example.com>")).startswith("550 5.7.1 ")


async def test_what_mail_asked_for_in_clear_does_not_outlive_starttls(serve: Serve, certificates: Certificates) -> None:
    """With XCLIENT no EHLO is needed in between, which would begin anew."""
    server = await serve(
        authorized_xclient_hosts=PROXY, tls_certificate=certificates.server, tls_key=certificates.server_key
    )
    client = await greeted(server)
    for command in ("EHLO x", "MAIL FROM:<evil@example.com> ENVID=evil HOLDFOR=600"):
        assert (await client.ask(command)).startswith("250")
    assert (await client.ask("STARTTLS")).startswith("220 ")
    await client.start_tls()
    assert (await client.ask("XCLIENT HELO=y PROTO=ESMTP")).startswith("220 ")
    for command in ("MAIL FROM:<app@example.com>", "RCPT TO:<t@sink.example.com>", "DATA"):
        assert (await client.ask(command))[0] in "23"
    assert "queued" in await client.ask("Subject: x\r\n.")
    ((message, (delivery,), _),) = server.spool.accepted
    assert (message.envelope.envid, message.envelope.release, delivery.due) == ("", "", 0)


async def test_a_client_told_of_counts_for_itself(serve: Serve) -> None:
    server = await serve(settings=few(1), authorized_xclient_hosts=PROXY)
    client = await greeted(server)
    assert (await client.ask("XCLIENT ADDR=192.0.2.7")).startswith("220 ")
    second = await greeted(server)
    assert (await second.ask("XCLIENT ADDR=192.0.2.7")).startswith("421 4.7.0 1 connections are open from your address")
    assert await second.rest() == ""
    second.close()
    await client.ask("QUIT")
    while server.listener.sessions:
        await asyncio.sleep(0)
    third = await greeted(server)
    assert (await third.ask("XCLIENT ADDR=192.0.2.7")).startswith("220 ")


async def test_a_header_and_xclient_together(serve: Serve) -> None:
    """A balancer in front of a listed proxy: it is the header that tells who may use XCLIENT."""
    server = await serve(proxy_protocol=PROXY, authorized_xclient_hosts=(ip_network("192.0.2.7/32"),))
    client = await greeted(server, header=V1)
    assert (await client.ask("XCLIENT ADDR=192.0.2.8")).startswith("220 ")
    other = await greeted(server, header=V1.replace(b"192.0.2.7", b"192.0.2.8"))
    assert (await other.ask("XCLIENT ADDR=192.0.2.7")).startswith("550 5.7.1 192.0.2.8 ")


async def test_a_client_that_goes_while_it_is_asked_for_whom_it_counts_is_given_back(serve: Serve) -> None:
    server = await serve(proxy_protocol=PROXY)
    asked, answer = asyncio.Event(), asyncio.Event()
    counts: list[str] = []

    class Elsewhere:
        def admit(self, address: str) -> MessageError | None:
            counts.append(address)
            return None

        async def move(self, address: str, to: str) -> MessageError | None:
            asked.set()
            await answer.wait()
            counts.append(to)
            return None

        def left(self, address: str) -> None:
            counts.append(f"{address} left")

    sessions = server.listener._sessions
    sessions._admission = Elsewhere()
    client = await connect(server, header=V1)
    await asked.wait()
    client.writer.transport.abort()
    answer.set()
    while server.listener.sessions:
        await asyncio.sleep(0)
    assert counts == ["", "192.0.2.7", "192.0.2.7 left"]
