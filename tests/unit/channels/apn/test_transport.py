"""TCP and TLS to a gateway, against the standard library's TLS server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from channels.apn import connect
from channels.apn.options import Options
from channels.apn.transport import open_transport
from mcmt.clock import SystemClock
from mcmt.errors import ConnectError, RouteFaultError
from mcmt.message.route import Route
from mcmt.wire.trace import Trace


class Authority:
    """Certificates of one authority, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._authority = trustme.CA()
        self.file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, file: str = "certificate.pem") -> Path:
        """A certificate for *name* with its key in one file; one that is there is replaced."""
        path = self._folder / file
        issued = self._authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path


class Unheard:
    """A report of a connection that never comes to be."""

    trace: Trace | None = None

    def outcomes(self, batch: object) -> None:
        raise AssertionError(batch)

    def wake(self) -> None:
        raise AssertionError

    def leaving(self) -> None:
        pass

    def closed(self, reason: str) -> None:
        raise AssertionError(reason)


class Nothing:
    """A state in which nothing is kept."""

    def get(self, key: str) -> bytes | None:
        return None

    def put(self, key: str, value: bytes) -> None:
        raise AssertionError(key)

    def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
        raise AssertionError(key)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


class Gateway:
    """A TLS server that accepts and notes whose certificate it was shown."""

    def __init__(self) -> None:
        self.shown: asyncio.Queue[str] = asyncio.Queue()
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: dict[str, Any] = writer.get_extra_info("peercert") or {}
        for _, name in peer.get("subjectAltName", ()):
            self.shown.put_nowait(name)
        await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def gateway(
    certificate: Path, *, host: str = "127.0.0.1", clients: Path | None = None, port: int = 0
) -> AsyncIterator[Gateway]:
    """*clients*: the authority of the certificates that clients have to show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    running = Gateway()
    server = await asyncio.start_server(running.accept, host, port, ssl=context)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        await server.wait_closed()


async def reach(host: str, port: int, **options: object) -> str:
    """Connect and hang up; the TLS version that was spoken."""
    transport, _ = await open_transport(host, port, Options.model_validate(options), asyncio.Protocol)
    try:
        return str(transport.get_extra_info("ssl_object").version())
    finally:
        transport.close()
        await asyncio.sleep(0)


async def test_a_gateway_is_verified_by_authority_and_name(authority: Authority) -> None:
    async with gateway(authority.issue("localhost")) as running:
        assert await reach("localhost", running.port, tls_ca=str(authority.file)) in ("TLSv1.2", "TLSv1.3")


async def test_another_name_is_refused_by_host_and_passed_by_ca(authority: Authority) -> None:
    async with gateway(authority.issue("elsewhere.example.com")) as running:
        with pytest.raises(ConnectError, match="certificate verify failed"):
            await reach("localhost", running.port, tls_ca=str(authority.file))
        await reach("localhost", running.port, tls_ca=str(authority.file), tls_verify="ca")


async def test_another_authority_is_refused_by_ca_and_passed_by_no(authority: Authority, tmp_path: Path) -> None:
    strangers = Authority(tmp_path / "strangers")
    async with gateway(strangers.issue("localhost")) as running:
        with pytest.raises(ConnectError, match="certificate verify failed"):
            await reach("localhost", running.port, tls_ca=str(authority.file), tls_verify="ca")
        await reach("localhost", running.port, tls_verify="no")


async def test_a_certificate_that_was_replaced_is_shown_by_the_next_connection(authority: Authority) -> None:
    async with gateway(authority.issue("localhost"), clients=authority.file) as running:
        for name in ("old.example.com", "new.example.com"):
            client = authority.issue(name, "client.pem")
            await reach("localhost", running.port, tls_ca=str(authority.file), tls_certificate=str(client))
            async with asyncio.timeout(10):
                assert await running.shown.get() == name


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
async def test_a_certificate_that_the_gateway_refuses_is_the_routes_fault(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """With TLS 1.2 it is told within the handshake, with TLS 1.3 after it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("localhost"))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    stranger = Authority(tmp_path / "strangers").issue("app.example.com")
    options = Options.model_validate({"tls_ca": str(authority.file), "tls_certificate": str(stranger)})

    def refuse(server: socket.socket) -> None:
        client, _ = server.accept()
        with client, pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            context.wrap_socket(client, server_side=True)

    # A thread with blocking sockets: they send the alert, which uvloop's server does not.
    with socket.create_server(("127.0.0.1", 0)) as server:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, server))
        route = Route("apn", "localhost", server.getsockname()[1])
        with pytest.raises(RouteFaultError, match=r"refuses the client certificate: .*UNKNOWN_CA"):
            await connect(route, options, Unheard(), SystemClock(), Nothing())
        await refusing


async def test_a_certificate_that_cannot_be_loaded_is_the_routes_fault_and_named(tmp_path: Path) -> None:
    with pytest.raises(RouteFaultError, match=r"cannot load .*missing\.pem"):
        await reach("localhost", 1, tls_verify="no", tls_certificate=str(tmp_path / "missing.pem"))


async def test_ipv6_is_spoken(authority: Authority) -> None:
    async with gateway(authority.issue("::1"), host="::1") as running:
        await reach("::1", running.port, tls_ca=str(authority.file))


async def test_a_name_is_looked_up_each_time_and_every_address_of_it_is_tried(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One address answers, the other does not: whichever comes first, a connection is had."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    ask_the_system = loop.getaddrinfo
    async with gateway(authority.issue("api.example.com"), host="::1") as running:

        async def look_up(host: str, port: int, **kwargs: Any) -> Any:
            if host != "api.example.com":  # the loop looks addresses up as well
                return await ask_the_system(host, port, **kwargs)
            asked.append(host)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            ]

        monkeypatch.setattr(loop, "getaddrinfo", look_up)
        for _ in range(5):
            await reach("api.example.com", running.port, tls_ca=str(authority.file))
    assert asked == ["api.example.com"] * 5


async def test_a_name_that_nobody_knows_says_so() -> None:
    with pytest.raises(ConnectError, match=r"nowhere\.invalid cannot be looked up"):
        await reach("nowhere.invalid", 443, tls_verify="no")


async def test_a_name_that_cannot_be_one_says_so_too() -> None:
    with pytest.raises(ConnectError, match=r"a\.\.b cannot be looked up"):
        await reach("a..b", 443, tls_verify="no")


async def test_when_no_address_answers_each_is_named_with_its_reason() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port meanwhile
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectError, match=r"^127\.0\.0\.1:\d+: Connection refused$"):
            await reach("127.0.0.1", taken.getsockname()[1], tls_verify="no")
        with pytest.raises(ConnectError, match=r"^localhost:\d+: .*127\.0\.0\.1: Connection refused"):
            await reach("localhost", taken.getsockname()[1], tls_verify="no")
