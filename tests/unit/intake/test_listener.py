"""Listening: addresses, who may relay, how many, silence, and the stop."""

from __future__ import annotations

import asyncio
import secrets
import socket
from ipaddress import ip_network
from typing import Any, cast

import msgspec
import pytest

from mcmt.clock import SystemClock, Timer
from mcmt.config.settings import AddressSettings, ListenSettings
from mcmt.errors import ListenError, MessageError
from mcmt.intake.door import is_listed
from mcmt.intake.listener import SmtpListener
from mcmt.intake.sockets import bind_sockets
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import MCMT, ListSpool, make_channels, make_listen, make_settings

IDLE = ListenSettings(host=None, port=0).idle_timeout


def make_listener(*listen: Any, listens: bool = True) -> SmtpListener:
    settings = msgspec.structs.replace(make_settings(), listen=listen)
    spool: Any = ListSpool()
    return SmtpListener(settings, make_channels(), spool, SystemClock(), secrets.randbits, listens=listens)


async def greeting(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


class HandClock(SystemClock):
    """Time that stands still until it is moved, with the timers that are due then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[HandTimer] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Any) -> Timer:
        self.timers.append(HandTimer(self.now + delay, callback))
        return self.timers[-1]

    def move(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now]
        self.timers = [timer for timer in self.timers if timer.at > self.now]
        for timer in due:
            timer.callback()


class HandTimer:
    def __init__(self, at: float, callback: Any) -> None:
        self.at = at
        self.callback = callback

    def cancel(self) -> None:
        self.callback = lambda: None


async def test_several_addresses_are_served_at_once() -> None:
    listener = make_listener(make_listen(), make_listen(host="::1"), make_listen(host=None))
    await listener.start()
    try:
        assert [host for host, _ in listener.addresses] == ["127.0.0.1", "::1", "0.0.0.0", "::"]
        assert listener.addresses[2][1] == listener.addresses[3][1] != 0
        for host, port in listener.addresses:
            assert (await greeting(host, port)).startswith(b"220 mx.example.com ESMTP")
    finally:
        await listener.drain(0.0)


def bind(listen: ListenSettings) -> list[socket.socket]:
    return bind_sockets(AddressSettings(listen.host, listen.port, "esmtp_listener.listen", "SMTP"))


async def test_every_ipv4_and_every_ipv6_address_stand_beside_each_other_on_one_port() -> None:
    first = bind(make_listen(host="0.0.0.0"))
    second = bind(make_listen(host="::", port=first[0].getsockname()[1]))
    for one in (*first, *second):
        one.close()


async def test_connections_that_another_process_accepted_are_sessions_like_others() -> None:
    left: list[str] = []

    class Elsewhere:
        def __init__(self, refusal: MessageError | None) -> None:
            self.refusal = refusal

        def admit(self, address: str) -> MessageError | None:
            return self.refusal

        async def move(self, address: str, to: str) -> MessageError | None:
            raise AssertionError("there is no proxy")

        def left(self, address: str) -> None:
            left.append(address)

    listen = make_listen()
    [listening] = bind(listen)
    listener = make_listener(listen, listens=False)
    await listener.start()
    assert listener.addresses == (), "it listens nowhere itself"
    address = listening.getsockname()
    loop = asyncio.get_running_loop()
    for refusal, word in ((None, b"220 "), (MessageError(421, "4.3.2", "no more"), b"421 4.3.2 no more")):
        greeted = asyncio.ensure_future(greeting(*address))
        connected, _ = await loop.sock_accept(listening)
        await listener.take(0, connected, Elsewhere(refusal))
        assert (await greeted).startswith(word)
    await listener.drain(0.0)
    listening.close()
    assert left == ["127.0.0.1"], "who was refused was never in"


async def test_an_address_in_use_is_named_and_nothing_stays_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = bind(make_listen())
        free_port = free[0].getsockname()[1]
        free[0].close()
        listener = make_listener(make_listen(port=free_port), make_listen(port=port))
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: Address already in use; .*another port"):
            await listener.start()
        bind(make_listen(port=free_port))[0].close()


@pytest.mark.parametrize(
    ("host", "text"),
    [("192.0.2.1", "no such address"), ("host.invalid", "name an IP address")],
)
def test_an_address_that_this_machine_does_not_have_is_named(host: str, text: str) -> None:
    with pytest.raises(ListenError, match=f"cannot listen on {host}.*{text}"):
        bind(make_listen(host=host))


@pytest.mark.parametrize(
    ("peer", "networks", "allowed"),
    [
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("::ffff:127.0.0.1", ["127.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["::ffff:10.0.0.0/104"], True),
        ("::ffff:10.1.2.3", ["127.0.0.0/8", "::1/128"], False),
        ("::1", ["127.0.0.0/8", "::1/128"], True),
        ("2001:db8::1", ["::1/128", "2001:db8::/32"], True),
        ("192.0.2.1", [], False),
        ("", ["0.0.0.0/0"], False),
    ],
)
def test_who_may_relay(peer: str, networks: list[str], allowed: bool) -> None:
    assert is_listed(peer, tuple(map(ip_network, networks))) is allowed


async def test_a_client_outside_relay_hosts_is_told_so_at_mail(serve: Serve) -> None:
    server = await serve(relay_hosts=(ip_network("10.0.0.0/8"),))
    client = await server.hello()
    reply = await client.ask("MAIL FROM:<app@example.com>")
    assert reply.startswith("550 5.7.1 ")
    assert "relay_hosts" in reply
    assert (await client.ask("RCPT TO:<t@apn.example.com>")).startswith("503 ")
    await server.listener.drain(1.0)
    ((phase, sender),) = [(event.phase, event.sender) for event in server.spool.recorded]
    assert (phase, sender) == ("MAIL", "app@example.com")


async def test_a_silent_client_is_told_and_cut_off(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock)
    client = await server.hello()
    clock.move(IDLE - 1)
    assert (await client.ask("NOOP")).startswith("250")
    clock.move(2)
    assert (await client.ask("NOOP")).startswith("250")
    clock.move(IDLE)
    assert (await client.rest()).startswith("421 4.4.2 ")


async def test_a_client_that_waits_for_the_spool_is_not_silent(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock)
    server.spool.gate.clear()
    client = await server.ready()
    client.send(MCMT + b".\r\n")
    await server.spool.waiting.wait()
    clock.move(IDLE + 1)
    clock.move(IDLE + 1)
    server.spool.gate.set()
    assert (await client.reply()).startswith("250 2.0.0")


async def test_a_client_that_does_not_read_is_not_read_either(serve: Serve) -> None:
    """The replies that it leaves lying are bounded: the server works off no more of its commands."""
    server = await serve()
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await loop.sock_connect(deaf, server.address)
        await loop.sock_sendall(deaf, b"EHLO x\r\n")
        assert await loop.sock_recv(deaf, 1000)
        (session,) = server.listener._sessions
        wire = cast(Any, session)._wire
        wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        # 500,000 octets of commands, whose replies are 8 MB.
        sending = asyncio.ensure_future(loop.sock_sendall(deaf, b"HELP\r\n" * 83_000))
        most = 0
        async with asyncio.timeout(10.0):
            while not most:
                await asyncio.sleep(0.01)
                most = wire.get_write_buffer_size()
        for _ in range(20):
            await asyncio.sleep(0.01)
            most = max(most, wire.get_write_buffer_size())
        sending.cancel()
        assert most < 300_000


async def test_a_drain_lets_a_message_finish_and_tells_the_others(serve: Serve) -> None:
    server = await serve()
    sending, idle = await server.ready(), await server.hello()
    sending.send(MCMT[:50])
    await sending.writer.drain()
    draining = asyncio.ensure_future(server.listener.drain(5.0))
    assert (await idle.rest()).startswith("421 4.3.2 ")
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*server.address)
    sending.send(MCMT[50:] + b".\r\n")
    said = (await sending.rest()).splitlines()
    sending.close()
    assert [line[:9] for line in said] == ["250 2.0.0", "421 4.3.2"]
    await draining
    assert server.listener.sessions == 0
    assert len(server.spool.accepted) == 1


async def test_a_drain_has_a_limit(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock)
    client = await server.ready()
    client.send(MCMT[:50])
    draining = asyncio.ensure_future(server.listener.drain(5.0))
    await asyncio.sleep(0)
    assert not draining.done()
    clock.move(5.0)
    assert (await client.rest()).startswith("421 4.3.2 ")
    await draining
    assert not server.spool.accepted


async def test_a_drain_without_sessions_is_done_at_once() -> None:
    listener = make_listener(make_listen())
    await listener.start()
    await asyncio.wait_for(listener.drain(60.0), 1.0)
