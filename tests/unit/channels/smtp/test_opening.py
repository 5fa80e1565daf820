"""From a route to a session: greetings, EHLO, STARTTLS by policy, and what each failure is."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl

import pytest

from channels.smtp import Options
from mcmt.errors import ConnectError, RouteFaultError
from mcmt.message.route import Route
from mcmt.message.status import Disposition
from tests.support.tls import Certificates
from tests.unit.channels.smtp.peer import Peer, Script, deliveries, open_to, serving


def server_context(certificates: Certificates, *, client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.ca)
    return context


def options(**values: object) -> Options:
    return Options.model_validate({"helo_name": "mx.example.com", **values})


async def take_one(peer: Peer) -> None:
    """One message, then QUIT, after the greeting."""
    assert (await peer.line()).startswith("MAIL")
    await peer.say("250 ok")
    await peer.line()
    await peer.say("250 ok")
    await peer.line()
    await peer.message()
    assert await peer.line() == "QUIT"


async def deliver(route: Route, with_options: Options) -> None:
    connection, report = await open_to(route, with_options)
    connection.send(deliveries("u@example.org"))
    await report.free()
    await connection.aclose(1)
    assert report.dispositions == [Disposition.DELIVERED]


def speaks_tls(certificates: Certificates, *, client: bool = False) -> Script:
    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS", "SIZE 1")
        assert await peer.line() == "STARTTLS"
        await peer.say("220 go on")
        await peer.start_tls(server_context(certificates, client=client))
        # RFC 3207 4.2: what was offered in clear counts no longer, SIZE 1 least of all.
        assert await peer.hello() == "EHLO mx.example.com"
        await take_one(peer)

    return script


def speaks_clear(*extensions: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.greet(*extensions)
        await take_one(peer)

    return script


@pytest.mark.parametrize("tls", ["may", "must"])
async def test_tls_is_used_where_it_is_offered(certificates: Certificates, tls: str) -> None:
    async with serving(speaks_tls(certificates)) as route:
        await deliver(route, options(tls=tls, tls_ca=certificates.ca))


async def test_may_does_not_verify(certificates: Certificates) -> None:
    async with serving(speaks_tls(certificates)) as route:
        await deliver(route, options())


async def test_no_is_in_clear_whatever_is_offered(certificates: Certificates) -> None:
    async with serving(speaks_clear("STARTTLS")) as route:
        await deliver(route, options(tls="no"))


async def test_may_is_in_clear_where_nothing_is_offered() -> None:
    async with serving(speaks_clear()) as route:
        await deliver(route, options())


async def test_must_needs_the_offer() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        assert await peer.gone() == b""

    async with serving(script) as route:
        with pytest.raises(ConnectError, match="does not offer STARTTLS, and tls is must"):
            await open_to(route, options(tls="must"))


async def refuses(peer: Peer) -> None:
    await peer.greet("STARTTLS")
    assert await peer.line() == "STARTTLS"
    await peer.say("454 4.7.0 not now")


async def speaks_nonsense(peer: Peer) -> None:
    await peer.greet("STARTTLS")
    assert await peer.line() == "STARTTLS"
    await peer.say("220 go on")
    await peer.reader.read(100)
    await peer.say("this is not TLS")
    await peer.gone()


async def hangs_up(peer: Peer) -> None:
    await peer.greet("STARTTLS")
    assert await peer.line() == "STARTTLS"
    await peer.say("220 go on")
    peer.abort()


async def injects(peer: Peer) -> None:
    """Somebody in between says what the server will offer after TLS."""
    await peer.greet("STARTTLS")
    assert await peer.line() == "STARTTLS"
    await peer.say("220 go on", "250 PIPELINING")
    await peer.gone()


@pytest.mark.parametrize("failing", [speaks_nonsense, hangs_up, injects])
async def test_may_goes_on_in_clear_over_a_new_connection(failing: Script) -> None:
    async with serving(failing, speaks_clear("STARTTLS")) as route:
        await deliver(route, options())


async def test_may_goes_on_in_clear_where_the_server_refuses_before_tls() -> None:
    async def script(peer: Peer) -> None:
        await refuses(peer)
        await take_one(peer)

    async with serving(script) as route:
        await deliver(route, options())


@pytest.mark.parametrize("failing", [refuses, speaks_nonsense, hangs_up, injects])
async def test_must_never_goes_on_in_clear(failing: Script) -> None:
    async def script(peer: Peer) -> None:
        await failing(peer)
        assert b"MAIL" not in await peer.gone()

    async with serving(script) as route:
        with pytest.raises(ConnectError):
            await open_to(route, options(tls="must", tls_verify="no"))


@pytest.mark.parametrize(
    ("verify", "host", "works"),
    [
        ("host", "127.0.0.1", True),
        ("host", "127.0.0.2", False),  # not in the certificate
        ("ca", "127.0.0.2", True),
        ("no", "127.0.0.2", True),
    ],
)
async def test_must_verifies_as_it_is_told(certificates: Certificates, verify: str, host: str, works: bool) -> None:
    async def failing(peer: Peer) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await speaks_tls(certificates)(peer)

    async with serving(speaks_tls(certificates) if works else failing, host=host) as route:
        wanted = options(tls="must", tls_verify=verify, tls_ca=certificates.ca if verify != "no" else None)
        if works:
            await deliver(route, wanted)
        else:
            with pytest.raises(ConnectError, match="mismatch"):
                await open_to(route, wanted)


async def test_must_needs_a_certificate_of_a_known_authority(certificates: Certificates) -> None:
    async def script(peer: Peer) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await speaks_tls(certificates)(peer)

    async with serving(script) as route:
        with pytest.raises(ConnectError, match=r"(?i)certificate.verify.failed"):
            await open_to(route, options(tls="must"))


async def test_a_client_certificate_is_shown(certificates: Certificates) -> None:
    async with serving(speaks_tls(certificates, client=True)) as route:
        await deliver(
            route,
            options(
                tls="must",
                tls_ca=certificates.ca,
                tls_certificate=certificates.client,
                tls_key=certificates.client_key,
            ),
        )


async def test_a_refused_client_certificate_is_the_routes_fault(certificates: Certificates) -> None:
    def serve(server: socket.socket) -> None:
        client, _ = server.accept()
        with client, client.makefile("rwb") as stream:
            for reply in (b"220 mx\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"220 go on\r\n"):
                stream.write(reply)
                stream.flush()
                if not reply.startswith(b"220 go"):
                    stream.readline()
            with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
                server_context(certificates, client=True).wrap_socket(client, server_side=True)

    # A thread with blocking sockets: they send the alert, which uvloop's server does not.
    with socket.create_server(("127.0.0.1", 0)) as server:
        serving_thread = asyncio.create_task(asyncio.to_thread(serve, server))
        route = Route("smtp", "127.0.0.1", server.getsockname()[1])
        with pytest.raises(RouteFaultError, match="CERTIFICATE_REQUIRED"):
            await open_to(route, options(tls="must", tls_ca=certificates.ca))
        await serving_thread


@pytest.mark.parametrize("last", ["421 4.3.2 closing", "250 what?"])
async def test_a_session_that_ends_as_it_begins_is_none(last: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("220 mx")
        await peer.line()
        await peer.say("250 mx", last)
        await peer.gone()

    async with serving(script) as route:
        with pytest.raises(ConnectError, match=re.escape(last)):
            await open_to(route)


@pytest.mark.parametrize("greeting", ["554 5.7.1 go away", "421 4.3.2 too busy", "hello?", "354 what"])
async def test_a_server_that_does_not_greet_gives_no_connection(greeting: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(greeting)
        assert await peer.gone() == b""

    async with serving(script) as route:
        with pytest.raises(ConnectError, match=re.escape(greeting)):
            await open_to(route)


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (["421 4.3.2 no"], "EHLO was answered 421 4.3.2 no"),
        (["450 no"], "EHLO was answered 450 no"),
        (["502 no", "550 no"], "HELO was answered 550 no"),
        ([], "closed the connection"),
    ],
)
async def test_a_server_that_does_not_take_our_name_gives_no_connection(after: list[str], text: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("220 mx")
        for reply in after:
            await peer.line()
            await peer.say(reply)
        if not after:
            await peer.line()
            return
        await peer.gone()

    async with serving(script) as route:
        with pytest.raises(ConnectError, match=re.escape(text)):
            await open_to(route)


async def test_a_server_that_speaks_before_it_is_asked_is_not_trusted() -> None:
    async def script(peer: Peer) -> None:
        await peer.say("220 mx", "250 already")
        await peer.gone()

    async with serving(script) as route:
        with pytest.raises(ConnectError, match="before it was asked"):
            await open_to(route)


async def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectError, match=r"127\.0\.0\.1:\d+: Connection refused"):
            await open_to(Route("smtp", "127.0.0.1", probe.getsockname()[1]))


async def test_a_name_that_is_none() -> None:
    with pytest.raises(ConnectError, match=r"nowhere\.invalid cannot be looked up"):
        await open_to(Route("smtp", "nowhere.invalid", 25))
    with pytest.raises(ConnectError, match=r"a\.\.b cannot be looked up"):
        await open_to(Route("smtp", "a..b", 25))


async def test_the_next_address_is_tried_where_one_gives_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.say("554 not here")
        await peer.gone()

    async with serving(refuse, host="::1") as first, serving(speaks_clear(), host="127.0.0.2") as second:
        addresses: list[tuple[int, tuple[str, int | None]]] = [(socket.AF_INET6, (first.host, first.port))]
        addresses.append((socket.AF_INET, (second.host, second.port)))

        async def look_up(host: str, port: int) -> list[tuple[int, tuple[str, int | None]]]:
            assert (host, port) == ("mail.example.org", 25)
            return addresses

        # No name on every machine has two addresses.
        monkeypatch.setattr("channels.smtp.opening.look_up", look_up)
        await deliver(Route("smtp", "mail.example.org"), options())


async def test_ipv6_is_spoken() -> None:
    async def script(peer: Peer) -> None:
        assert await peer.greet() == "EHLO mx.example.com"
        await peer.gone()

    async with serving(script, host="::1") as route:
        connection, report = await open_to(route)
        assert connection.remote_address == "::1"
        await connection.aclose(1)
        await report.end()


@pytest.mark.parametrize(
    ("full_name", "said"), [("host.example.net", "EHLO host.example.net"), ("localhost", "EHLO [127.0.0.1]")]
)
async def test_our_name_is_the_machines_or_else_its_address(
    monkeypatch: pytest.MonkeyPatch, full_name: str, said: str
) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.greet() == said
        await peer.gone()

    monkeypatch.setattr("socket.getfqdn", lambda: full_name)
    async with serving(script) as route:
        connection, report = await open_to(route, Options())
        await connection.aclose(1)
        await report.end()


async def test_cancelled_in_the_middle_it_leaves_nothing_open() -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    async with serving(script) as route:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await open_to(route)
        await asyncio.wait_for(gone.wait(), 5)
