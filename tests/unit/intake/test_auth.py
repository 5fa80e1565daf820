"""AUTH: who gets in, what each dialogue is told, and what guessing costs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mcmt.config.settings import IntakeSettings
from mcmt.intake import limits, passwords
from mcmt.intake.passwords import StoredPassword
from mcmt.message.event import Kind
from tests.support.tls import Certificates
from tests.unit.intake.conftest import Serve, cheap
from tests.unit.intake.server import MCMT, Client, Server, make_settings
from tests.unit.intake.test_listener import HandClock

ELSEWHERE = (ip_network("10.0.0.0/8"),)
Start = Callable[..., Awaitable[Server]]


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def plain(name: str = "app", password: str = "secret", acting_for: str = "") -> str:
    return "AUTH PLAIN " + b64(f"{acting_for}\0{name}\0{password}")


@pytest.fixture
def start(serve: Serve, certificates: Certificates, users_file: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A listener that has to be logged in to."""
    monkeypatch.setattr(limits, "AUTH_DELAY", 0.001)
    monkeypatch.setattr(limits, "LINGER", 0.1)

    async def begin(intake: IntakeSettings | None = None, **arguments: Any) -> Server:
        options = {"relay_hosts": ELSEWHERE, "users_file": users_file, **arguments}
        settings = make_settings(intake=intake or IntakeSettings())
        return await serve(
            settings=settings, tls_certificate=certificates.server, tls_key=certificates.server_key, **options
        )

    return begin


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


async def secure(server: Server) -> Client:
    client = await server.hello()
    await client.secure()
    return client


async def test_it_is_offered_and_accepted_over_tls_only(start: Start) -> None:
    client = await (await start()).connect()
    assert "AUTH" not in await client.ask("EHLO x")
    assert (await client.ask(plain())).startswith("538 5.7.11 ")
    assert (await client.ask("STARTTLS")).startswith("220")
    await client.start_tls()
    assert "250 AUTH PLAIN LOGIN\r\n" in await client.ask("EHLO x")
    assert (await client.ask(plain())).startswith("235 2.7.0 ")


async def test_a_client_from_elsewhere_may_submit_once_it_is_logged_in(start: Start) -> None:
    server = await start()
    client = await server.hello()
    assert (await client.ask("MAIL FROM:<a@example.com>")) == (
        "530 5.7.0 log in first (STARTTLS and AUTH), or have relay_hosts name 127.0.0.1\r\n"
    )
    await client.secure()
    assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("530 5.7.0 log in first (AUTH), or have relay")
    assert (await client.ask(plain())).startswith("235")
    client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<t@apn.example.com>\r\nDATA\r\n" + MCMT + b".\r\n")
    assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]
    ((message, _, events),) = server.spool.accepted
    assert message.envelope.user == "app"
    assert [event.user for event in events] == ["app"]


async def test_a_client_from_relay_hosts_needs_no_password(start: Start) -> None:
    client = await (await start(relay_hosts=(ip_network("127.0.0.0/8"),))).hello()
    assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("250 2.1.0")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([plain()], ["235 2.7.0 "]),
        (["auth plain " + b64("\0app\0secret")], ["235 2.7.0 "]),
        (["AUTH PLAIN", b64("\0app\0secret")], ["334 \r\n", "235 2.7.0 "]),
        ([plain(acting_for="app")], ["235 2.7.0 "]),
        ([plain(acting_for="other")], ["535 5.7.8 "]),
        ([plain(password="Secret")], ["535 5.7.8 "]),
        ([plain(password="")], ["535 5.7.8 "]),
        ([plain(password="\x01")], ["535 5.7.8 "]),
        ([plain(name="nobody")], ["535 5.7.8 "]),
        ([plain(name="")], ["535 5.7.8 "]),
        (["AUTH PLAIN", "*"], ["334 \r\n", "501 5.7.0 "]),
        (["AUTH PLAIN", "%%%"], ["334 \r\n", "501 5.5.2 "]),
        (["AUTH PLAIN ="], ["501 5.5.2 "]),
        (["AUTH PLAIN " + b64("\0app\0secret")[:-1]], ["501 5.5.2 "]),
        (["AUTH PLAIN " + b64("app\0secret")], ["501 5.5.2 "]),
        (["AUTH PLAIN " + b64("\0app\0sec\0ret")], ["501 5.5.2 "]),
        (["AUTH PLAIN " + b64(b"\0app\0\xff")], ["501 5.5.2 "]),
        (["AUTH LOGIN", b64("app"), b64("secret")], ["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n", "235 2.7.0 "]),
        (["AUTH LOGIN " + b64("app"), b64("secret")], ["334 UGFzc3dvcmQ6\r\n", "235 2.7.0 "]),
        (["AUTH LOGIN " + b64("app"), b64("wrong")], ["334 UGFzc3dvcmQ6\r\n", "535 5.7.8 "]),
        (["AUTH LOGIN " + b64("app"), ""], ["334 UGFzc3dvcmQ6\r\n", "535 5.7.8 "]),
        (["AUTH LOGIN", "*"], ["334 VXNlcm5hbWU6\r\n", "501 5.7.0 "]),
        (["AUTH LOGIN " + b64("app"), "*"], ["334 UGFzc3dvcmQ6\r\n", "501 5.7.0 "]),
        (["AUTH LOGIN", "not base64!"], ["334 VXNlcm5hbWU6\r\n", "501 5.5.2 "]),
        (["AUTH CRAM-MD5"], ["504 5.5.4 "]),
        (["AUTH"], ["504 5.5.4 "]),
        ([plain(), plain()], ["235 2.7.0 ", "503 5.5.1 "]),
        (["HELO x", plain()], ["250 ", "503 5.5.1 "]),
    ],
)
async def test_each_dialogue(start: Start, said: list[str], told: list[str]) -> None:
    client = await secure(await start())
    replies = [await client.ask(line) for line in said]
    assert [reply[: len(start)] for reply, start in zip(replies, told, strict=True)] == told
    assert (await client.ask("NOOP")).startswith("250")


async def test_it_is_not_for_the_middle_of_a_transaction(start: Start) -> None:
    client = await secure(await start(relay_hosts=(ip_network("127.0.0.0/8"),)))
    await client.ask("MAIL FROM:<>")
    assert (await client.ask(plain())).startswith("503 5.5.1 ")


async def test_ehlo_does_not_log_out(start: Start) -> None:
    client = await secure(await start())
    await client.ask(plain())
    await client.ask("EHLO x")
    assert (await client.ask("MAIL FROM:<>")).startswith("250")


async def test_a_long_answer_fits_and_a_longer_one_ends_the_session(start: Start, users_file: Path) -> None:
    long = "x" * 1000
    rewrite(users_file, f"app:{cheap(long)}\n")
    client = await secure(await start())
    command = plain(password=long, acting_for="app")
    assert (await client.ask(command)).startswith("235")
    client = await secure(await start())
    # RFC 4954 3: an AUTH command may be longer than other commands.
    assert (await client.ask("AUTH PLAIN " + b64("x" * 7000))).startswith("501 5.5.2 ")
    assert (await client.ask("NOOP " + "x" * 7000)).startswith("500 5.5.2 ")
    await client.ask("AUTH PLAIN")
    assert (await client.ask("x" * limits.AUTH_LINE)).startswith("500 5.5.6 ")
    assert await client.rest() == ""


async def test_a_password_that_is_not_ascii_is_prepared(start: Start, users_file: Path) -> None:
    """RFC 4013: the two ways to write e with an acute accent are one."""
    stored = cheap(passwords.prepare("caf\u00e9"))
    rewrite(users_file, f"app:{stored}\n")
    client = await secure(await start())
    assert (await client.ask(plain(password="cafe\u0301"))).startswith("235")


async def test_too_many_failures_end_the_session_each_one_later_than_the_last(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AUTH_DELAY", 7.0)
    clock = HandClock()
    # It is not the client that is silent meanwhile.
    server = await start(clock=clock, idle_timeout=10.0)
    client = await secure(server)
    for number, delay in enumerate((7.0, 14.0, 28.0), 1):
        client.send(plain(password=f"wrong{number}").encode() + b"\r\n")
        async with asyncio.timeout(5):
            while clock.now + delay not in [timer.at for timer in clock.timers]:
                await asyncio.sleep(0.001)
        clock.move(delay - 1)
        await asyncio.sleep(0.01)
        assert not client.reader._buffer  # type: ignore[attr-defined]  # not told yet
        clock.move(1)
        assert (await client.reply()).startswith("535 5.7.8 ")
    assert (await client.reply()).startswith("421 4.7.0 ")
    closed = asyncio.ensure_future(client.rest())
    while not closed.done():
        await asyncio.sleep(0.001)
        clock.move(limits.LINGER)


async def test_failures_are_recorded_with_the_name_and_never_the_password(start: Start) -> None:
    server = await start()
    client = await secure(server)
    await client.ask(plain(name="someone\r\nelse", password="hunter2"))
    await server.listener.drain(1.0)
    (event,) = server.spool.recorded
    assert (event.kind, event.phase, event.code, event.remote_address) == (Kind.REJECTION, "AUTH", "535", "127.0.0.1")
    assert event.text == r"5.7.8 wrong name or password: 'someone\r\nelse'"


async def test_a_client_that_failed_too_often_is_turned_away_in_every_session_until_the_window_has_passed(
    start: Start,
) -> None:
    clock = HandClock()
    intake = IntakeSettings(auth_failures_per_address=4, auth_failures_per_session=3, auth_failure_window=600.0)
    server = await start(intake, clock=clock)

    async def attempt(password: str) -> str:
        client = await secure(server)
        client.send(plain(password=password).encode() + b"\r\n")
        reply = asyncio.ensure_future(client.reply())
        while not reply.done():
            await asyncio.sleep(0.001)
            clock.move(0.01)
        return reply.result()

    assert (await attempt("secret"))[:3] == "235"
    for number in range(4):
        assert (await attempt(f"wrong{number}"))[:3] == "535"
    assert (await attempt("secret")).startswith("421 4.7.0 too many failed logins from your address")
    clock.move(590.0)
    assert (await attempt("secret"))[:3] == "421"
    clock.move(10.0)
    assert (await attempt("secret"))[:3] == "235"


async def test_a_changed_users_file_counts_at_the_next_login(
    start: Start, users_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start()

    async def attempt(password: str) -> str:
        return (await (await secure(server)).ask(plain(password=password)))[:3]

    assert await attempt("secret") == "235"
    rewrite(users_file, f"app:{cheap('other')}\n")
    assert await attempt("secret") == "535"
    assert await attempt("other") == "235"
    rewrite(users_file, "app:junk\n")
    assert await attempt("other") == "235"
    assert await attempt("other") == "235"
    assert caplog.text.count("users:1: expected scrypt$n$r$p$salt$hash, as mcmt passwd writes it; the users") == 1
    rewrite(users_file, "")
    assert await attempt("other") == "535"


async def test_passwords_are_computed_apart_and_other_sessions_go_on(
    start: Start, users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password takes a third of a second here; a message passes in a part of it."""
    rewrite(users_file, f"app:{StoredPassword(2**14, 8, 12, b'salt', bytes(32))}\n")
    server = await start(relay_hosts=(ip_network("127.0.0.0/8"),))
    guessing = await secure(server)
    guessing.send(plain(password="wrong").encode() + b"\r\n")
    submitting = await server.ready()
    submitting.send(MCMT + b".\r\n")
    assert (await submitting.reply()).startswith("250")
    assert not guessing.reader._buffer  # type: ignore[attr-defined]  # the password is still being computed
    assert (await guessing.reply()).startswith("535")


async def test_a_flood_of_guesses_is_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTH_PENDING", 1)
    server = await start()
    clients = [await secure(server) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(plain(name="nobody", password=f"guess{number}").encode() + b"\r\n")
    replies = [(await client.reply())[:9] for client in clients]
    assert sorted(replies) == ["454 4.7.0", "454 4.7.0", "535 5.7.8"]
    # What was not tried is not counted as failed, and may be tried again.
    assert (await clients[replies.index("454 4.7.0")].ask(plain())).startswith("235")


async def test_a_password_that_was_right_is_computed_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    matches = StoredPassword.matches

    def counting(stored: StoredPassword, password: str) -> bool:
        computed.append(password)
        return matches(stored, password)

    monkeypatch.setattr(StoredPassword, "matches", counting)
    server = await start()
    clients = [await secure(server) for _ in range(5)]
    # At once, and one after another.
    replies = await asyncio.gather(*(client.ask(plain()) for client in clients))
    assert [reply[:3] for reply in replies] == ["235"] * 5
    assert (await (await secure(server)).ask(plain()))[:3] == "235"
    assert computed == ["secret"]
    assert (await (await secure(server)).ask(plain(password="wrong")))[:3] == "535"
    assert (await (await secure(server)).ask(plain(password="wrong")))[:3] == "535"
    assert computed == ["secret", "wrong", "wrong"]


async def test_who_is_not_in_the_file_costs_as_much_as_who_is(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[tuple[int, int, int]] = []

    def counting(password: str, salt: bytes, n: int, r: int, p: int, length: int) -> bytes:
        costs.append((n, r, p))
        return bytes(length)

    stored = passwords.store("secret", b"x" * 16)
    monkeypatch.setattr(passwords, "_scrypt", counting)
    assert not stored.matches("wrong")
    client = await secure(await start(IntakeSettings(auth_failures_per_session=9)))
    # Even with what a stored password of octets 0 would be, nobody is not let in.
    assert (await client.ask(plain(name="nobody"))).startswith("535")
    assert (await client.ask(plain(name="nobody", password="\x01"))).startswith("535")
    assert costs[0] == costs[1] == costs[2] == (passwords.N, passwords.R, passwords.P)


async def test_a_client_that_leaves_while_it_waits_leaves_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "AUTH_DELAY", 3600.0)
    server = await start()
    client = await secure(server)
    client.send(plain(password="wrong").encode() + b"\r\n")
    await asyncio.sleep(0.02)
    client.writer.transport.abort()
    async with asyncio.timeout(5):
        while server.listener.sessions:
            await asyncio.sleep(0.01)
    assert "fault" not in caplog.text


async def test_a_stop_does_not_wait_for_those_who_failed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTH_DELAY", 3600.0)
    server = await start()
    client = await secure(server)
    client.send(plain(password="wrong").encode() + b"\r\n")
    await asyncio.sleep(0.02)
    draining = asyncio.ensure_future(server.listener.drain(60.0))
    assert (await client.rest()).startswith("421 4.3.2 ")
    client.close()
    await asyncio.wait_for(draining, 5)


async def test_without_users_it_is_no_command(serve: Serve, certificates: Certificates) -> None:
    server = await serve(tls_certificate=certificates.server, tls_key=certificates.server_key)
    client = await secure(server)
    assert "AUTH" not in await client.ask("EHLO x")
    assert (await client.ask(plain())).startswith("500 5.5.1 ")
