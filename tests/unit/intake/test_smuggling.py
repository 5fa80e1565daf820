"""SMTP smuggling: whatever stands where the end of a message could be, no second message comes to be of it.

A client hides a transaction inside a message, behind octets that some server takes for the end. Ours knows one end;
every other is content, or ends the session. smtplib repairs such octets, so these tests write to the socket.
"""

from __future__ import annotations

import pytest

from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import MCMT

SMUGGLED = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@apn.example.com>\r\nDATA\r\n" + MCMT

BARE = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\n\n.\r\n",
    b"\r\r\n.\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\n.\r\n",
    b"\n\r.\r\n",
    b"\r\n.\n\r\n",
    b"\r\n\r.\r\n",
]
NUL = [b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\x00\r\n.\x00\r\n"]
CONTENT = [
    b"\r\n..\r\n",
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n.\t\r\n",
    b".\r\n",
    b"\r\n.\x85\r\n",
    b"\r\n\xe2\x80\xa8.\r\n",
]
# "\r\n.\r" leaves the CR open: the octets of the smuggled transaction decide that it is bare.


@pytest.mark.parametrize("end", BARE)
@pytest.mark.parametrize("pause", [False, True])
async def test_a_bare_cr_or_lf_ends_the_session_and_nothing_is_accepted(serve: Serve, end: bytes, pause: bool) -> None:
    server = await serve()
    client = await server.ready()
    body = MCMT.removesuffix(b"\r\n")
    if pause:
        client.send(body)
        await client.writer.drain()
        client.send(end + b"x")
    else:
        client.send(body + end)
    client.send(SMUGGLED + b".\r\nQUIT\r\n")
    said = await client.rest()
    assert said.startswith("550 5.6.11 "), said
    assert said.count("\r\n") == 1
    assert not server.spool.accepted


@pytest.mark.parametrize("end", NUL)
async def test_a_nul_is_refused_at_the_real_end_with_all_that_it_hides(serve: Serve, end: bytes) -> None:
    """RFC 2045 2.8: neither 7bit nor 8bit data may have one. The session is in step, so it goes on."""
    server = await serve()
    client = await server.ready()
    client.send(MCMT.removesuffix(b"\r\n") + end + SMUGGLED + b".\r\nNOOP\r\n")
    assert (await client.reply()).startswith("554 5.6.0 ")
    assert await client.reply() == "250 2.0.0 OK\r\n"
    assert not server.spool.accepted


@pytest.mark.parametrize("end", CONTENT)
async def test_what_only_looks_like_the_end_is_content(serve: Serve, end: bytes) -> None:
    server = await serve()
    client = await server.ready(recipient="t@sink.example.com")
    client.send(MCMT.removesuffix(b"\r\n") + end + SMUGGLED + b".\r\nNOOP\r\n")
    assert (await client.reply()).startswith("250 2.0.0 ")
    assert await client.reply() == "250 2.0.0 OK\r\n"
    ((message, _, _),) = server.spool.accepted
    assert message.size > len(MCMT) + len(SMUGGLED) - 3
    assert message.envelope.reverse_path == "app@example.com"


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\r\n"])
async def test_a_client_that_waits_after_its_wrong_end_is_told_at_once(serve: Serve, end: bytes) -> None:
    client = await (await serve()).ready()
    client.send(b"Subject: sent by a script without CR" + end)
    assert "lines end with CR LF" in await client.reply()


async def test_a_refused_message_is_told_to_a_client_that_is_still_sending(serve: Serve) -> None:
    """Closing at once would send a reset, and with it the reply would be lost."""
    client = await (await serve()).ready()
    client.send(b"one\ntwo\r\n" + b"x" * 70 * 1024 * 60)
    said = await client.rest()
    assert said.startswith("550 5.6.11")


async def test_a_message_too_large_hides_nothing_either(serve: Serve) -> None:
    server = await serve(max_message_size=1000)
    client = await server.ready()
    client.send(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 3000 + b"a\n.\r\n" + SMUGGLED + b".\r\n")
    said = await client.rest()
    assert said.startswith("550 5.6.11"), said
    assert not server.spool.accepted


@pytest.mark.parametrize("line", [b"y" * 70 + b"\r\n", b"y" * 70_000 + b"\r\n", b"." * 70_000])
async def test_a_message_too_large_is_read_to_its_end_and_refused(serve: Serve, line: bytes) -> None:
    server = await serve(max_message_size=100_000)
    client = await server.ready()
    client.send(b"Subject: x\r\n\r\n" + line * (1_000_000 // len(line)) + b"\r\n.\r\nNOOP\r\n")
    reply = await client.reply()
    assert reply.startswith(("552 5.3.4", "554 5.6.0")), reply
    assert await client.reply() == "250 2.0.0 OK\r\n"
    assert not server.spool.accepted


async def test_a_line_of_64_kb_is_kept_octet_by_octet(serve: Serve) -> None:
    server = await serve()
    client = await server.ready(recipient="t@sink.example.com")
    line = b'.{"aps":"' + b"z" * (65_536 - 11) + b'"}'
    client.send(b"Subject: x\r\n\r\n." + line + b"\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    (part,) = server.spool.accepted[0][0].parts
    assert part.content == b"Subject: x\r\n\r\n" + line + b"\r\n"
