"""STARTTLS: what it protects, what it forgets, and certificates that change."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import threading
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import pytest

from mcmt.errors import ListenError
from mcmt.intake import limits
from mcmt.intake.connection import Connection
from tests.support.tls import Certificates, make_certificates
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import MCMT, Client, Server


@pytest.fixture
async def server(serve: Serve, certificates: Certificates) -> Server:
    return await serve(tls_certificate=certificates.server, tls_key=certificates.server_key)


def peer_certificate(client: Client) -> bytes:
    secure: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
    certificate = secure.getpeercert(binary_form=True)
    assert certificate
    return certificate


async def test_it_is_offered_before_tls_and_not_within(server: Server) -> None:
    client = await server.connect()
    assert "250 STARTTLS" in await client.ask("EHLO x")
    assert (await client.ask("STARTTLS")).startswith("220 2.0.0 ")
    await client.start_tls()
    assert "STARTTLS" not in await client.ask("EHLO x")
    assert (await client.ask("STARTTLS")).startswith("503 5.5.1 ")


async def test_a_message_is_taken_over_tls_and_the_client_can_verify_us(
    server: Server, certificates: Certificates
) -> None:
    client = await server.hello()
    await client.ask("STARTTLS")
    await client.start_tls(certificates.ca)
    client.send(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<t@apn.example.com>\r\nDATA\r\n" + MCMT + b".\r\nQUIT\r\n")
    said = await client.rest()
    assert "queued\r\n221 2.0.0" in said
    assert len(server.spool.accepted) == 1


async def test_plaintext_behind_starttls_is_thrown_away(server: Server) -> None:
    """CVE-2011-0411: whoever is on the way puts commands into the first packet, and the client signs for them."""
    client = await server.hello()
    client.send(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<t@apn.example.com>\r\n")
    assert (await client.reply()).startswith("220 ")
    await client.start_tls()
    assert (await client.ask("EHLO x")).startswith("250-mx.example.com")
    assert (await client.ask("RCPT TO:<t@apn.example.com>")).startswith("503 5.5.1 ")


async def test_a_command_cut_by_starttls_is_not_completed_within_tls(server: Server) -> None:
    client = await server.hello()
    client.send(b"STARTTLS\r\nNOOP injec")
    assert (await client.reply()).startswith("220 ")
    await client.start_tls()
    client.send(b"ted\r\n")
    assert (await client.reply()).startswith("500 5.5.1 ")


async def test_the_session_begins_anew_after_it(server: Server) -> None:
    client = await server.hello()
    assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("250")
    assert (await client.ask("STARTTLS")).startswith("220 ")
    await client.start_tls()
    assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("503 5.5.1 send EHLO first")
    await client.ask("EHLO x")
    assert (await client.ask("RCPT TO:<t@apn.example.com>")).startswith("503 5.5.1 send MAIL first")


async def test_an_argument_is_an_error_and_the_session_goes_on(server: Server) -> None:
    client = await server.hello()
    assert (await client.ask("STARTTLS now")).startswith("501 5.5.4 ")
    await client.secure()


async def test_replies_of_commands_before_it_come_before_it(server: Server) -> None:
    client = await server.hello()
    client.send(b"NOOP\r\nRSET\r\nSTARTTLS\r\n")
    assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "220"]
    await client.start_tls()
    assert (await client.ask("EHLO x")).startswith("250")


async def test_a_large_message_passes_through(server: Server) -> None:
    client = await server.hello()
    await client.secure()
    await client.ask("MAIL FROM:<>")
    await client.ask("RCPT TO:<t@sink.example.com>")
    await client.ask("DATA")
    body = b"x" * 998 + b"\r\n"
    client.send(body * 2000 + b".\r\n")
    assert (await client.reply()).startswith("250 ")
    assert server.spool.accepted[0][0].size == 2_000_000


async def test_what_comes_with_the_end_of_the_handshake_may_be_much(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that waits for nothing: more than the session reads at once arrives together with its handshake."""
    # The kernel's first window is 64 KB, as much as the reader takes; so the reader is made to take less.
    monkeypatch.setattr(Connection, "most_input", 8192)
    host, port = server.address
    loop = asyncio.get_running_loop()

    def talk() -> bytes:
        with socket.create_connection((host, port), timeout=10) as plain:
            plain.recv(1000)
            plain.sendall(b"EHLO x\r\n")
            while not plain.recv(1000).endswith(b"250 STARTTLS\r\n"):
                pass
            plain.sendall(b"STARTTLS\r\n")
            assert plain.recv(1000).startswith(b"220")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            secure = context.wrap_bio(incoming, outgoing)
            while True:
                try:
                    secure.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
            secure.write(b"EHLO x\r\n")
            for _ in range(20):
                secure.write(b"NOOP " + b"x" * 1000 + b"\r\n")
            for _ in range(20):
                secure.write((b"NOOP " + b"x" * 1000 + b"\r\n") * 10)
            # The server's loop stands still until all of it is there to be read.
            standing, sent = threading.Event(), threading.Event()

            def stand() -> None:
                standing.set()
                sent.wait(5)

            loop.call_soon_threadsafe(stand)
            assert standing.wait(5)
            plain.sendall(outgoing.read())
            sent.set()
            said = b""
            while b"221 " not in said:
                try:
                    said += secure.read(65536)
                except ssl.SSLWantReadError:
                    incoming.write(plain.recv(65536))
                if said.count(b"250 2.0.0 OK") == 220:
                    secure.write(b"QUIT\r\n")
                    plain.sendall(outgoing.read())
            return said

    said = await asyncio.to_thread(talk)
    assert said.count(b"250 2.0.0 OK") == 220


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_tls_is_refused(server: Server, version: ssl.TLSVersion) -> None:
    client = await server.hello()
    await client.ask("STARTTLS")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await client.writer.start_tls(context)
    await gone(server)


async def gone(server: Server) -> None:
    """Return when the server has no session left."""
    async with asyncio.timeout(5):
        while server.listener.sessions:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("octets", [b"EHLO x\r\n" * 10, b"\x16\x03\x01\x00\x05hello", b""])
async def test_a_handshake_that_is_none_ends_the_session(
    server: Server, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = await server.hello()
    await client.ask("STARTTLS")
    client.send(octets)
    client.writer.write_eof()
    await asyncio.wait_for(client.reader.read(), 5)
    await gone(server)
    assert "fault" not in caplog.text


async def test_a_connection_reset_within_the_handshake_leaves_nothing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = await server.hello()
    await client.ask("STARTTLS")
    client.writer.transport.abort()
    await gone(server)
    assert "fault" not in caplog.text


async def test_a_handshake_has_a_deadline(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_HANDSHAKE", 0.1)
    client = await server.hello()
    await client.ask("STARTTLS")
    assert await client.rest() == ""
    await gone(server)


async def test_a_stop_within_the_handshake_is_no_plaintext_in_it(server: Server) -> None:
    client = await server.hello()
    await client.ask("STARTTLS")
    await server.listener.drain(1.0)
    assert await client.rest() == ""
    assert server.listener.sessions == 0


async def test_a_stop_tells_a_client_over_tls(server: Server) -> None:
    client = await server.hello()
    await client.secure()
    draining = asyncio.ensure_future(server.listener.drain(5.0))
    assert (await client.rest()).startswith("421 4.3.2 ")
    client.close()
    await draining


async def test_a_client_that_does_not_answer_our_goodbye_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS ends when both sides have said so; a client that never does keeps no place for it."""
    monkeypatch.setattr(limits, "LINGER", 0.1)
    client = await server.hello()
    await client.secure()
    cast(Any, client.writer.transport).pause_reading()
    client.send(b"QUIT\r\n")
    await gone(server)


async def test_require_tls_takes_nothing_before_it(serve: Serve, certificates: Certificates) -> None:
    server = await serve(
        tls_certificate=certificates.server, tls_key=certificates.server_key, require_tls=True, max_errors=50
    )
    client = await server.hello()
    for command in ("MAIL FROM:<>", "RCPT TO:<t@apn.example.com>", "DATA", "VRFY x", "HELO x", "RSET", "HELP"):
        assert (await client.ask(command)).startswith("530 5.7.0 send STARTTLS first"), command
    for command in ("NOOP", "EHLO x"):
        assert (await client.ask(command)).startswith("250"), command
    await client.secure()
    assert (await client.ask("MAIL FROM:<>")).startswith("250 2.1.0")


async def test_a_renewed_certificate_serves_the_next_connection_and_a_broken_one_changes_nothing(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = make_certificates(tmp_path)
    server = await serve(tls_certificate=files.server, tls_key=files.server_key)

    async def served() -> bytes:
        client = await server.hello()
        await client.secure()
        return peer_certificate(client)

    first = await served()
    (tmp_path / "renewed").mkdir()
    renewed = make_certificates(tmp_path / "renewed")
    # The certificate comes before its key: for a moment the two do not fit.
    shutil.copy(renewed.server, files.server)
    assert await served() == first
    assert await served() == first
    assert caplog.text.count("the old certificate stays in use: the key is not that of the certificate") == 1
    shutil.copy(renewed.server_key, files.server_key)
    second = await served()
    assert second != first
    files.server.write_text("junk")
    assert await served() == second
    assert caplog.text.count("stays in use") == 2
    files.server.unlink()
    assert await served() == second
    assert "No such file" in caplog.text
    shutil.copy(renewed.server, files.server)
    # The same octets and size: what tells is the time and the inode.
    os.utime(files.server)
    assert await served() == second
    assert caplog.text.count("stays in use") == 3


async def test_a_certificate_that_cannot_be_loaded_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("junk")
    with pytest.raises(ListenError, match=r"cert\.pem cannot be used: .*is not PEM"):
        await serve(tls_certificate=file, relay_hosts=(ip_network("127.0.0.0/8"),))


async def test_without_a_certificate_it_is_no_command(serve: Serve) -> None:
    client = await (await serve()).hello()
    assert (await client.ask("STARTTLS")).startswith("500 5.5.1 ")
    assert "STARTTLS" not in await client.ask("HELP")
