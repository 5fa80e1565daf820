"""Requests to a receiver: real sockets, and receivers that are not right."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from mcmt.clock import SystemClock
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.webhooks.answers import Answer
from mcmt.webhooks.receiver import KEPT, Receiver
from tests.support.tls import Certificates

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(peer: Peer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await peer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def to(
    port: int, scheme: str = "http", timeout: float = 20.0, ca: Path | None = None, host: str = "localhost"
) -> Receiver:
    settings = WebhookSettings(
        name="a", url=f"{scheme}://{host}:{port}/a/b?c=d", secret=("x",), timeout=timeout, tls_ca=ca
    )
    return Receiver(settings, SystemClock())


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    return head + await reader.readexactly(int(length.partition(b": ")[2]))


def saying(*answers: bytes) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request_of(reader)
            writer.write(answer)
            await writer.drain()

    return peer


async def post(receiver: Receiver, body: bytes = b"{}") -> Answer:
    try:
        return await receiver.post(body, {"webhook-id": "a-1"})
    finally:
        receiver.close()


async def test_a_request_is_whole_and_goes_to_the_path_of_the_url() -> None:
    came = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await request_of(reader))
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    async with listening(peer) as port:
        assert await post(to(port), b'{"a":1}') == Answer(202, "answered 202")
        lines = came[0].decode().split("\r\n")
        assert lines[0] == "POST /a/b?c=d HTTP/1.1"
        assert f"Host: localhost:{port}" in lines
        assert lines[-1] == '{"a":1}'


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, "answered 302"),
        (b"HTTP/1.1 503 No\r\nRetry-After: 9\r\n\r\n", 503, "answered 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nless", 200, "answered 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 2 * KEPT, 200, "answered 200"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk", 200, "answered 200"),
        (b"", 0, "closed the connection without an answer"),
        (b"HTTP/1.1 20", 0, "closed the connection without an answer"),
        (b"220 mx.example.com ESMTP\r\n\r\n", 0, "this is no response of HTTP/1.1"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, 0, "nothing but interim responses came"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000, 0, "sent an answer whose head is larger than 16384 bytes"),
    ],
)
async def test_whatever_is_answered_is_a_status_or_why_there_was_none(answer: bytes, status: int, text: str) -> None:
    async with listening(saying(answer)) as port:
        found = await post(to(port))
    assert (found.status, found.text) == (status, text)
    assert found.retry_after == (9.0 if status == 503 else 0.0)


async def test_silence_and_single_octets_end_with_the_timeout() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with listening(peer) as port:
        assert await post(to(port, timeout=0.2)) == Answer(0, "no answer within 0.2 s")


async def test_a_connection_is_kept_and_one_that_was_closed_in_the_meantime_is_no_failure() -> None:
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    connections = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await saying(ok, ok)(reader, writer)

    async with listening(peer) as port:
        receiver = to(port)
        for _ in range(5):
            assert (await receiver.post(b"{}", {})).status == 200
        receiver.close()
    assert len(connections) == 3


async def test_a_status_is_the_answer_though_the_rest_of_it_never_comes() -> None:
    connections = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await saying(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nless")(reader, writer)
        await reader.read()

    async with listening(peer) as port:
        receiver = to(port, timeout=0.5)
        for _ in range(2):
            assert await receiver.post(b"{}", {}) == Answer(200, "answered 200")
        receiver.close()
    assert len(connections) == 2, "what is still to come would be taken for the next answer"


async def test_what_was_said_before_a_request_is_no_answer_to_it() -> None:
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    no = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    answers = [ok + ok, no]

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(answers.pop(0))(reader, writer)
        await reader.read()

    async with listening(peer) as port:
        receiver = to(port)
        found = [(await receiver.post(b"{}", {})).status for _ in range(2)]
        receiver.close()
    assert found == [200, 500]


async def test_who_is_not_there_is_told_by_the_systems_word() -> None:
    async with listening(saying()) as port:
        pass
    assert (await post(to(port))).text == "Connection refused"


async def test_a_certificate_is_verified_by_authority_and_by_name(certificates: Certificates) -> None:
    ok = saying(b"HTTP/1.1 204 OK\r\n\r\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    async with listening(ok, context) as port:
        assert (await post(to(port, "https", ca=certificates.ca))).status == 204
        distrusted = await post(to(port, "https"))
        assert distrusted.status == 0
        assert distrusted.text.startswith("its certificate is not to be trusted: ")
    other = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.issue_cert("elsewhere.example.com").configure_cert(context)
    with other.cert_pem.tempfile() as ca:
        async with listening(ok, context) as port:
            assert "localhost" in (await post(to(port, "https", ca=Path(ca)))).text
