"""The client of the HTTP API against a server that does as it is told: what is sent again, with what, and when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.client import (
    LINES,
    AsyncClient,
    Client,
    Delivery,
    RefusedError,
    Sent,
    UnavailableError,
    _check,
    _ComeAgainError,
    message,
    push,
)

PART = push({"aps": {"alert": "hello"}}, tokens=["ab"], headers={"apns-priority": "5"})
KEPT = b'{"id":"01","deliveries":1}'


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes
    connection: int
    """Which one it came on, from 1."""

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


class Reply(NamedTuple):
    """What a request is answered with; without a status the connection just ends."""

    status: int = 0
    body: bytes = b""
    headers: tuple[str, ...] = ()
    closes: bool = False
    early: bool = False
    """Said when the head is there, and then the connection ends: the body is not read."""


def bulk(request: Request) -> Reply:
    """Every line is kept."""
    numbers = range(1, request.body.count(b"\n") + 1)
    answers = [{"line": number, "status": 202, "id": f"{number:02}", "deliveries": 1} for number in numbers]
    return Reply(200, b"".join([json.dumps(one).encode() + b"\n" for one in answers]))


Script = Callable[[Request], Reply]


class Peer:
    """Answers each request by the next of the script; the last one holds on."""

    def __init__(self, *script: Reply | Script) -> None:
        self.requests: list[Request] = []
        self._script = list(script)
        self._connections = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connections += 1
                threading.Thread(target=self._serve, args=(client, self._connections), daemon=True).start()

    def _next(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return step if isinstance(step, Reply) else step(request)

    def _serve(self, client: socket.socket, number: int) -> None:
        with client, client.makefile("rb") as octets, contextlib.suppress(OSError):
            while first := octets.readline().decode().split():
                headers = {}
                while field := octets.readline().decode().strip():
                    name, _, value = field.partition(": ")
                    headers[name.lower()] = value
                step = self._script[0]
                if isinstance(step, Reply) and step.early:
                    reply = self._next(Request(first[0], first[1], headers, b"", number))
                    self._say(client, reply)
                    return
                body = octets.read(int(headers.get("content-length", 0)))
                reply = self._next(Request(first[0], first[1], headers, body, number))
                if not reply.status:
                    return
                self._say(client, reply)
                if reply.closes:
                    return

    def _say(self, client: socket.socket, reply: Reply) -> None:
        fields = "".join([f"{field}\r\n" for field in reply.headers])
        head = f"HTTP/1.1 {reply.status} X\r\nContent-Length: {len(reply.body)}\r\n{fields}\r\n"
        client.sendall(head.encode("latin-1") + reply.body)


class Waits(list[float]):
    """``sleep`` that only notes for how long."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@contextlib.contextmanager
def talk(*script: Reply | Script, **options: Any) -> Iterator[tuple[Peer, Client, Waits]]:
    peer, waits = Peer(*script), Waits()
    try:
        with Client(peer.url, "secret", **{"sleep": waits, "timeout": 20.0, **options}) as client:
            yield peer, client, waits
    finally:
        peer.close()


def refusal(status: int, *headers: str, **more: Any) -> Reply:
    return Reply(status, json.dumps({"status": status, "detail": "because", **more}).encode(), headers)


def test_a_message_goes_with_the_token_and_a_key_and_is_what_was_given() -> None:
    with talk(Reply(202, KEPT)) as (peer, client, waits):
        sent = client.send(
            ["a@b.example"],
            [PART],
            key="order-1",
            sender="app@example.com",
            headers={"x-mcmt-context": "a=b"},
            schedule=datetime(2030, 1, 1, tzinfo=UTC),
            expires=1e10,
        )
    assert (sent, waits) == (Sent("01", 1), [])
    (request,) = peer.requests
    assert (request.method, request.path, request.key) == ("POST", "/v1/messages", "order-1")
    assert request.headers["authorization"] == "Bearer secret"
    assert json.loads(request.body) == {
        "to": ["a@b.example"],
        "parts": [PART],
        "from": "app@example.com",
        "headers": {"x-mcmt-context": "a=b"},
        "schedule": "2030-01-01T00:00:00+00:00",
        "expires": 1e10,
    }


def test_a_time_without_a_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="time zone"):
        message(["a@b.example"], [PART], schedule=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the mistake


@pytest.mark.parametrize("url", ["127.0.0.1:8025", "ftp://x", "http://", ""])
def test_what_is_no_url_is_a_mistake(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL"):
        Client(url, "x")


def test_requests_in_turn_use_one_connection_and_keys_of_their_own() -> None:
    with talk(Reply(202, KEPT)) as (peer, client, _):
        for _ in range(3):
            client.send(["a@b.example"], [PART])
    assert {request.connection for request in peer.requests} == {1}
    assert len({request.key for request in peer.requests}) == 3


def test_a_path_before_the_apis_is_kept() -> None:
    peer = Peer(Reply(202, KEPT))
    with Client(peer.url + "/push/", "x") as client:
        client.send(["a@b.example"], [PART])
    peer.close()
    assert peer.requests[0].path == "/push/v1/messages"


@pytest.mark.parametrize("key", [None, "order-1"])
@pytest.mark.parametrize(
    "trouble",
    [
        Reply(),
        refusal(429),
        refusal(503),
        refusal(408),
        Reply(502, b"<html>Bad gateway</html>"),
        Reply(202, b"<html>Welcome</html>"),
        Reply(202, b"{}"),
    ],
    ids=["no answer", "429", "503", "408", "a proxy's 502", "a portal's 202", "another 202"],
)
def test_what_is_not_answered_for_good_is_sent_again_as_it_was_with_the_same_key(trouble: Reply, key: str) -> None:
    with talk(trouble, trouble, Reply(202, KEPT, ("Idempotency-Replayed: true",))) as (peer, client, waits):
        assert client.send(["a@b.example"], [PART], key=key) == Sent("01", 1, replayed=True)
    assert len(peer.requests) == 3
    assert len({(request.key, request.body) for request in peer.requests}) == 1
    assert key is None or peer.requests[0].key == key
    # Each wait is at least so long, and at most half as long again.
    assert all(low <= wait <= low * 1.5 for low, wait in zip((0.1, 0.2), waits, strict=True)), waits


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    with talk(Reply(202, KEPT, closes=True)) as (peer, client, _):
        client.send(["a@b.example"], [PART])
        client.send(["a@b.example"], [PART])
    assert [request.connection for request in peer.requests] == [1, 2]


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("Retry-After: 2", 2, 3), ("Retry-After: 1000", 30, 30), ("Retry-After: soon", 0.1, 0.15)],
)
def test_the_time_to_come_again_is_waited_for_within_reason(said: str, least: float, most: float) -> None:
    with talk(refusal(503, said), Reply(202, KEPT)) as (_, client, waits):
        client.send(["a@b.example"], [PART])
    (wait,) = waits
    assert least <= wait <= most


def test_after_so_many_attempts_it_is_given_up_with_the_last_reason() -> None:
    with (
        talk(refusal(503), attempts=3) as (peer, client, waits),
        pytest.raises(UnavailableError, match="tried 3 times: 503 because"),
    ):
        client.send(["a@b.example"], [PART])
    assert (len(peer.requests), len(waits)) == (3, 2)


def test_nobody_there_is_unavailable_too() -> None:
    peer = Peer(Reply())
    peer.close()
    with (
        Client(peer.url, "x", attempts=2, sleep=Waits()) as client,
        pytest.raises(UnavailableError, match="tried 2 times"),
    ):
        client.send(["a@b.example"], [PART])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422])
def test_a_refusal_is_told_at_once_and_the_connection_stays(status: int) -> None:
    with talk(refusal(status, field="to[0]"), Reply(202, KEPT)) as (peer, client, waits):
        with pytest.raises(RefusedError, match=rf"{status} to\[0\]: because") as refused:
            client.send(["a@b.example"], [PART])
        assert (refused.value.status, refused.value.detail, refused.value.field) == (status, "because", "to[0]")
        client.send(["a@b.example"], [PART])
    assert waits == []
    assert [request.connection for request in peer.requests] == [1, 1]


def test_a_refusal_that_comes_before_the_body_was_read_is_the_reason() -> None:
    """The server closes in the face of a client that still writes."""
    with (
        talk(refusal(413)._replace(early=True)) as (peer, client, _),
        pytest.raises(RefusedError, match="413 because"),
    ):
        client.send_raw(b"x" * 20_000_000, ["a@b.example"])
    assert len(peer.requests) == 1


def test_an_answer_that_does_not_come_in_time_is_none() -> None:
    release = threading.Event()

    def slow(_: Request) -> Reply:
        release.wait(20)
        return Reply()

    with talk(slow, Reply(202, KEPT), timeout=0.5) as (peer, client, waits):
        assert client.send(["a@b.example"], [PART]).id == "01"
        release.set()
    assert len({request.key for request in peer.requests}) == 1
    assert waits


def test_a_raw_message_has_its_envelope_in_the_query() -> None:
    with talk(Reply(202, KEPT)) as (peer, client, _):
        client.send_raw(b"Subject: x\r\n\r\n", ["a+b@c.example", "d@e.example"], sender="f@g.example", expires=5.0)
    (request,) = peer.requests
    assert request.path == "/v1/messages?to=a%2Bb%40c.example&to=d%40e.example&from=f%40g.example&expires=5.0"
    assert (request.headers["content-type"], request.body) == ("message/rfc822", b"Subject: x\r\n\r\n")


def test_many_go_some_a_request_each_with_a_key_of_its_own() -> None:
    with talk(bulk) as (peer, client, _):
        sent = list(client.send_many([message(["a@b.example"], [])] * (2 * LINES + 1), key="k"))
    assert len(sent) == 2 * LINES + 1
    assert [request.body.count(b"\n") for request in peer.requests] == [LINES, LINES, 1]
    assert [request.key for request in peer.requests] == ["k-1", "k-2", "k-3"]
    assert {request.connection for request in peer.requests} == {1}


def test_one_of_many_that_is_refused_is_told_in_its_place() -> None:
    def some(request: Request) -> Reply:
        lines = bulk(request).body.splitlines(keepends=True)
        lines[1] = b'{"line":2,"status":400,"detail":"no","field":"to[0]"}\n'
        return Reply(200, b"".join(lines))

    with talk(some) as (_, client, _):
        first, second, third = client.send_many([{}] * 3)
    assert (first, third) == (Sent("01", 1), Sent("03", 1))
    assert isinstance(second, RefusedError)
    assert (second.status, second.field) == (400, "to[0]")


@pytest.mark.parametrize(
    "trouble",
    [
        lambda _: Reply(200, b'{"line":1,"status":429,"detail":"full","retry_after":1}\n'),
        lambda request: Reply(200, bulk(request).body.partition(b"\n")[0] + b"\n"),
        lambda request: Reply(200, bulk(request).body[:-9]),
        lambda _: Reply(),
        lambda _: refusal(503),
    ],
    ids=["a line to come again", "too few answers", "half an answer", "no answer", "503"],
)
def test_many_that_are_not_all_answered_are_all_sent_again_with_the_same_key(trouble: Script) -> None:
    with talk(trouble, bulk) as (peer, client, waits):
        sent = list(client.send_many([{}] * 3))
    assert sent == [Sent(f"{n:02}", 1) for n in (1, 2, 3)]
    assert len({(request.key, request.body) for request in peer.requests}) == 1
    assert len(waits) == 1


def test_many_are_read_as_they_are_sent_and_no_further() -> None:
    given: list[int] = []

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            given.append(1)
            yield {}

    with talk(bulk) as (_, client, _):
        next(iter(client.send_many(endless())))
    assert len(given) == LINES


def test_where_a_message_stands_is_asked_for_page_by_page() -> None:
    one = {"id": "01-1", "to": "a@b", "token": "ab", "state": "delivered", "remote_id": "x", "a-later-field": 1}
    pages = [
        {"id": "01", "received": "2030", "total": 2, "deliveries": [one], "next": "/v1/messages/01?after=1&limit=1"},
        {"id": "01", "received": "2030", "total": 2, "deliveries": [{**one, "id": "01-2", "state": "waiting"}]},
    ]
    with talk(*[Reply(200, json.dumps(page).encode()) for page in pages]) as (peer, client, _):
        status = client.status("01")
    first = Delivery("01-1", "a@b", "ab", "delivered", remote_id="x")
    assert status.deliveries == (first, replace(first, id="01-2", state="waiting"))
    assert (status.total, status.ended) == (2, False)
    assert [request.path for request in peer.requests] == ["/v1/messages/01", "/v1/messages/01?after=1&limit=1"]
    assert "idempotency-key" not in peer.requests[0].headers


def test_a_client_that_was_interrupted_goes_on_over_a_new_connection() -> None:
    def interrupt(_: Request) -> Reply:
        raise OSError

    class Stop(BaseException):
        pass

    def stop(_: float) -> None:
        raise Stop

    with talk(interrupt, Reply(202, KEPT), sleep=stop) as (_, client, _):
        with pytest.raises(Stop):
            client.send(["a@b.example"], [PART])
        assert client.send(["a@b.example"], [PART]).id == "01"


async def test_for_asyncio_so_many_are_under_way_at_once_each_on_a_connection() -> None:
    barrier = threading.Barrier(4)

    def together(_: Request) -> Reply:
        barrier.wait(20)
        return Reply(202, KEPT)

    peer = Peer(together)
    async with AsyncClient(peer.url, "x", connections=4) as client:
        sent = await asyncio.gather(*[client.send(["a@b.example"], [PART], key=f"k{n}") for n in range(12)])
    peer.close()
    assert sent == [Sent("01", 1)] * 12
    assert {request.connection for request in peer.requests} == {1, 2, 3, 4}
    assert {request.key for request in peer.requests} == {f"k{n}" for n in range(12)}


async def test_for_asyncio_everything_is_as_it_is_without() -> None:
    status = json.dumps({"id": "01", "received": "2030", "total": 0, "deliveries": []}).encode()
    peer = Peer(refusal(503), Reply(202, KEPT), bulk, Reply(200, status), refusal(400))
    async with AsyncClient(peer.url, "x", connections=1, sleep=Waits()) as client:
        assert await client.send_raw(b"x", ["a@b.example"], key="k") == Sent("01", 1)
        assert await client.send_many([{}, {}], key="m") == [Sent("01", 1), Sent("02", 1)]
        assert (await client.status("01")).ended
        with pytest.raises(RefusedError):
            await client.send(["nobody"], [PART])
    peer.close()
    assert [request.headers.get("idempotency-key") for request in peer.requests[:4]] == ["k", "k", "m-1", None]


async def test_for_asyncio_the_end_waits_for_what_is_under_way() -> None:
    arrived, release = threading.Event(), threading.Event()

    def held(_: Request) -> Reply:
        arrived.set()
        release.wait(20)
        return Reply(202, KEPT)

    peer = Peer(held)
    client = AsyncClient(peer.url, "x")
    sending = asyncio.ensure_future(client.send(["a@b.example"], [PART]))
    await asyncio.to_thread(arrived.wait, 20)
    ending = asyncio.ensure_future(client.aclose())
    await asyncio.sleep(0)
    assert not ending.done()
    release.set()
    await ending
    assert (await sending).id == "01"
    peer.close()


@given(status=st.integers(100, 599), retry_after=st.none() | st.text(max_size=5), content=st.binary(max_size=50))
def test_whatever_an_answer_says_it_is_a_refusal_or_a_time_to_come_again(
    status: int, retry_after: str | None, content: bytes
) -> None:
    try:
        _check(status, 202, retry_after, content)
    except RefusedError as error:
        assert error.status == status  # noqa: PT017 - either is right
    except _ComeAgainError as error:
        assert error.wait >= 0  # noqa: PT017 - either is right
    else:
        assert status == 202
