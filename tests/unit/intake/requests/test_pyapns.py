"""What clients of pyapns say, and what they are answered: to the octet where they depend on it."""

from __future__ import annotations

import asyncio
import json
import socket
import xmlrpc.client
from datetime import datetime
from typing import Any

import pytest

from mcmt.config.settings import IntakeSettings
from mcmt.errors import SpoolFull
from tests.unit.intake.requests.conftest import APP, Memory, Start

TOKEN, OTHER = "a1" * 32, "b2" * 32
HELLO = {"aps": {"alert": "hello"}}
NIL = (
    b"<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><nil/></value></param>\n</params>\n"
    b"</methodResponse>\n"
)


def fault(code: int, text: str) -> bytes:
    """As Twisted wrote it."""
    return (
        "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n"
        f"<member>\n<name>faultCode</name>\n<value><int>{code}</int></value>\n</member>\n"
        f"<member>\n<name>faultString</name>\n<value><string>{text}</string></value>\n</member>\n"
        "</struct></value>\n</fault>\n</methodResponse>\n"
    ).encode()


def call(method: str, *values: Any) -> bytes:
    return xmlrpc.client.dumps(values, method, allow_none=True).encode()


PROVISION = call("provision", APP, "/etc/cert.pem", "sandbox", 15)


@pytest.mark.parametrize("path", ["/", "/RPC2", "/any/where?x=y"])
async def test_on_any_path_a_notification_is_nil_when_it_is_kept(start: Start, path: str) -> None:
    server = await start()
    head, body = await server.post(server.pyapns, PROVISION, path=path)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/xml; charset=utf-8\r\n" in head
    assert body == NIL
    _, body = await server.post(server.pyapns, call("notify", APP, TOKEN, HELLO), path=path)
    assert body == NIL
    assert server.sent == [(TOKEN, b'{"aps":{"alert":"hello"}}')]
    ((message, _, events),) = server.spool.accepted
    assert (message.envelope.protocol, message.envelope.reverse_path) == ("pyapns", "push@example.com")
    assert {event.protocol for event in events} == {"pyapns"}


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (call("notify", "nobody", TOKEN, HELLO), 404, "The app_id specified has not been provisioned."),
        (call("feedback", "nobody"), 404, "The app_id specified has not been provisioned."),
        (
            call("provision", APP, "x", "staging", 15),
            401,
            "Invalid environment provided `staging`. Valid environments are `sandbox` and `production`",
        ),
        (call("push", APP), 8001, "procedure push not found"),
        (call("system.listMethods"), 8001, "no such subHandler system"),
        (call("provision", APP), 8002, "error"),
        (call("provision", APP, "x", "sandbox", 15, 16), 8002, "error"),
        (call("feedback"), 8002, "error"),
    ],
)
async def test_faults_are_those_that_clients_know(start: Start, body: bytes, code: int, text: str) -> None:
    server = await start()
    head, told = await server.post(server.pyapns, body)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert told == fault(code, text)


@pytest.mark.parametrize(
    ("tokens", "notifications"),
    [
        ("xyz", HELLO),
        ("a1b", HELLO),
        ("", HELLO),
        (7, HELLO),
        (TOKEN, "hello"),
        (TOKEN, [HELLO, HELLO]),
        ([TOKEN, OTHER, "c3" * 32], [HELLO, HELLO]),
        (TOKEN, {"aps": {"alert": xmlrpc.client.Binary(b"x")}}),
        (TOKEN, {"aps": {"alert": xmlrpc.client.DateTime("20100115T10:20:30")}}),
        (TOKEN, {"no": "aps"}),
        ([TOKEN, OTHER], [HELLO, {"aps": {"alert": "x" * 5000}}]),
    ],
)
async def test_what_cannot_be_pushed_is_8002_with_its_reason_in_the_reject_log_and_nothing_is_kept(
    start: Start, tokens: Any, notifications: Any
) -> None:
    server = await start()
    await server.call("provision", APP, "x", "sandbox", 15)
    _, body = await server.post(server.pyapns, call("notify", APP, tokens, notifications))
    assert body == fault(8002, "error")
    assert server.sent == []
    await server.doors.drain(0.0)
    (event,) = server.spool.recorded
    assert (event.protocol, event.phase, event.domain) == ("pyapns", "notify", "apn.example.com")
    assert event.text


@pytest.mark.parametrize(
    ("tokens", "notifications", "sent"),
    [
        (TOKEN.upper(), HELLO, [TOKEN]),
        (" ".join(TOKEN[at : at + 8] for at in range(0, 64, 8)), HELLO, [TOKEN]),
        ([TOKEN, OTHER], [HELLO, {"aps": {"badge": 1}}], [TOKEN, OTHER]),
        # As the ruby client says "one token, one hash": it puts every hash into a list.
        (TOKEN, [HELLO], [TOKEN]),
        ([TOKEN, OTHER], HELLO, [TOKEN, OTHER]),
        ([TOKEN, OTHER], [HELLO], [TOKEN, OTHER]),
        ([], [], []),
        ([TOKEN, TOKEN], [HELLO, HELLO], [TOKEN, TOKEN]),
    ],
)
async def test_tokens_and_dictionaries_come_alone_in_lists_and_mixed(
    start: Start, tokens: Any, notifications: Any, sent: list[str]
) -> None:
    server = await start()
    await server.call("provision", APP, "x", "sandbox")
    assert await server.call("notify", APP, tokens, notifications) is None
    assert [token for token, _ in server.sent] == sent


async def test_a_payload_is_the_json_that_pyapns_wrote(start: Start) -> None:
    server = await start()
    await server.call("provision", APP, "x", "sandbox")
    given = {"zebra": None, "aps": {"alert": "schön – 日本", "badge": 3, "x": [True, 1.5]}}
    await server.call("notify", APP, TOKEN, given)
    ((_, payload),) = server.sent
    assert payload == json.dumps(given, separators=(",", ":"), ensure_ascii=False).encode()


async def test_a_dialogue_as_the_ruby_client_speaks_it(start: Start) -> None:
    """Integers as i4, one line, its own media type, the connection closed each time."""
    server = await start()
    provision = (
        '<?xml version="1.0" ?><methodCall><methodName>provision</methodName><params>'
        f"<param><value><string>{APP}</string></value></param><param><value><string>/c.pem</string></value></param>"
        "<param><value><string>sandbox</string></value></param><param><value><i4>15</i4></value></param></params>"
        "</methodCall>\n"
    )
    notify = (
        '<?xml version="1.0" ?><methodCall><methodName>notify</methodName><params>'
        f"<param><value><string>{APP}</string></value></param><param><value><string>{TOKEN}</string></value></param>"
        "<param><value><array><data><value><struct><member><name>aps</name><value><struct><member><name>badge</name>"
        "<value><i4>7</i4></value></member></struct></value></member></struct></value></data></array></value></param>"
        "</params></methodCall>\n"
    )
    for body in (provision, notify):
        _, told = await server.post(server.pyapns, body.encode(), "text/xml; charset=utf-8")
        assert told == NIL
    assert server.sent == [(TOKEN, b'{"aps":{"badge":7}}')]


async def test_provisioning_outlives_the_engine_and_is_taken_anew_when_it_changes(start: Start) -> None:
    state = Memory()
    first = await start(state)
    await first.call("provision", APP, "x", "sandbox", 15)
    await first.doors.drain(0.0)
    second = await start(state)
    third = await start(state)
    await second.call("notify", APP, TOKEN, HELLO)
    await third.call("provision", APP, "y", "production", 15)
    await second.call("notify", APP, TOKEN, HELLO)
    domains = [delivery.domain for _, deliveries, _ in second.spool.accepted for delivery in deliveries]
    assert domains == ["apn.example.com", "other.example.com"]


async def test_of_a_certificate_nothing_but_a_digest_is_kept(start: Start) -> None:
    state = Memory()
    server = await start(state)
    await server.call("provision", APP, "-----BEGIN CERTIFICATE-----secret", "sandbox", 15)
    assert "secret" not in repr(state.kept)


async def test_an_app_without_a_domain_is_provisioned_and_its_notifications_are_refused_but_never_404(
    start: Start,
) -> None:
    """A client that is told 404 provisions again, and again, for as long as its stack is deep."""
    server = await start(sandbox={})
    assert await server.call("provision", APP, "x", "sandbox", 15) is None
    _, body = await server.post(server.pyapns, call("notify", APP, TOKEN, HELLO))
    assert body == fault(8002, "error")


async def test_what_is_not_kept_is_500(start: Start) -> None:
    server = await start()
    await server.call("provision", APP, "x", "sandbox")
    server.spool.failure = SpoolFull("full")
    _, body = await server.post(server.pyapns, call("notify", APP, TOKEN, HELLO))
    assert body == fault(500, "Connection to the APNS server could not be made.")


async def test_one_connection_too_many_is_told_500_and_is_served_later(start: Start) -> None:
    server = await start(intake=IntakeSettings(max_connections=1))
    with socket.create_connection(("127.0.0.1", server.pyapns)) as first:
        first.sendall(b"POST / HTTP/1.1\r\n")
        while not server.doors.sessions:
            await _turn()
        told = await server.say(server.pyapns, b"")
    assert told.endswith(fault(500, "Connection to the APNS server could not be made."))


async def _turn() -> None:
    await asyncio.sleep(0.005)  # a socket that is accepted has no event to wait for


async def test_a_client_that_goes_while_its_call_is_kept_is_counted_no_more_and_the_call_is_kept(start: Start) -> None:
    server = await start()
    await server.call("provision", APP, "x", "sandbox")
    server.spool.gate.clear()
    body = call("notify", APP, TOKEN, HELLO)
    with socket.create_connection(("127.0.0.1", server.pyapns)) as gone:
        gone.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await asyncio.wait_for(server.spool.waiting.wait(), 5)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await asyncio.sleep(0.05)  # the reset has no event to wait for
    server.spool.gate.set()
    async with asyncio.timeout(5):
        while server.doors.sessions:
            await _turn()
    assert [token for token, _ in server.sent] == [TOKEN]
    assert server.doors.smtp.held_bytes == 0


async def test_feedback_is_local_time_and_token_and_is_cleared_when_the_client_has_it(start: Start) -> None:
    server = await start()
    await server.call("provision", APP, "x", "sandbox")
    assert await server.call("feedback", APP) == []
    server.learn(TOKEN, OTHER)
    told = await server.call("feedback", APP)
    assert [token for _, token in told] == [TOKEN, OTHER]
    assert told[0][0] == datetime.fromtimestamp(1263550831).strftime("%Y%m%dT%H:%M:%S")  # noqa: DTZ006
    await server.told(0)
    assert await server.call("feedback", APP) == []


async def test_a_client_that_asks_again_on_its_connection_has_what_it_was_told(start: Start) -> None:
    server = await start()
    await server.call("provision", APP, "x", "sandbox")
    server.learn(TOKEN)
    body = call("feedback", APP)
    request = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode()
    whole = request + b"\r\n" + body + request + b"Connection: close\r\n\r\n" + body
    answer = await server.say(server.pyapns, whole)
    assert answer.count(TOKEN.encode()) == 1


async def test_a_client_that_is_killed_before_it_has_read_is_told_again(start: Start) -> None:
    server = await start()
    await server.call("provision", APP, "x", "sandbox")
    server.learn(TOKEN)
    body = call("feedback", APP)
    with socket.create_connection(("127.0.0.1", server.pyapns)) as killed:
        killed.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        while not server.doors.sessions:
            await _turn()
        killed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    while server.doors.sessions:
        await _turn()
    assert [token for _, token in await server.call("feedback", APP)] == [TOKEN]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"<methodCall></methodCall>",
        b"<methodCall><methodName>notify</methodName><params><param><value><struct><member></struct>",
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><methodCall><methodName>feedback</methodName></methodCall>',
        b'<!DOCTYPE x [<!ENTITY a "b">]><methodCall><methodName>&a;</methodName></methodCall>',
        b"<methodCall><methodName>notify</methodName><params><param>" + b"<value><array><data>" * 1000,
        b"<methodCall><methodName>x</methodName><params><param><value><int>" + b"9" * 5000 + b"</int></value></param>",
    ],
)
async def test_what_is_no_call_is_8002_and_says_why(start: Start, body: bytes) -> None:
    server = await start()
    _, told = await server.post(server.pyapns, body)
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(told)
    assert caught.value.faultCode == 8002
    assert caught.value.faultString.startswith("Can't deserialize input: ")


async def test_other_methods_of_http_are_405(start: Start) -> None:
    server = await start()
    answer = await server.say(server.pyapns, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"Allow: POST\r\n" in answer
