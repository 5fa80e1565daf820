"""A client of the HTTP API (docs/http.md), on the standard library alone.

    from mcmt.client import Client, push

    with Client("http://127.0.0.1:8025", token) as client:
        sent = client.send(["push@apn.example.com"], [push({"aps": {"alert": "You have mail"}}, tokens=[device])])
        print(sent.id, client.status(sent.id).deliveries)

Every message goes with an Idempotency-Key, the caller's or one made here; what got no answer, or was told to come
again, is sent again with the same key, so that it is kept once however often it had to be sent.

Rules: a Client has one connection and one caller at a time; an AsyncClient has several, each on a thread, because the
standard library's HTTP is blocking and a second one of our own would have to be kept right too.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import random
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

from mcmt.errors import McmtError

LINES: Final = 500
"""Messages of one bulk request. Their answers fit into the buffers between us and the engine while we still write."""
_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
_LONGEST_WAIT: Final = 30.0
_is_token = re.compile(r"[!-~]+").fullmatch
_LOST: Final = (OSError, http.client.HTTPException)
_T = TypeVar("_T")


class RefusedError(McmtError):
    """The engine refuses the request, and would again. ``field``: what is to blame, as ``to[0]``."""

    def __init__(self, status: int, detail: str, blamed: str = "") -> None:
        super().__init__(f"{status} {blamed}: {detail}" if blamed else f"{status} {detail}")
        self.status = status
        self.detail = detail
        self.field = blamed


class UnavailableError(McmtError):
    """There was no answer, or none but "come again", as often as was tried. Whether it was kept is not known."""


@dataclass(frozen=True)
class Sent:
    """A message that is on the engine's disk."""

    id: str
    deliveries: int
    replayed: bool = False
    """It was there already, under the same key."""


@dataclass(frozen=True)
class Delivery:
    """Where one delivery stands."""

    id: str
    to: str
    token: str
    state: str
    """waiting, sending, delivered or failed."""
    code: str = ""
    text: str = ""
    remote_id: str = ""
    time: str = ""
    """When it ended, RFC 3339."""


@dataclass(frozen=True)
class Status:
    """Where a message stands."""

    id: str
    received: str
    total: int
    deliveries: tuple[Delivery, ...] = field(repr=False)

    @property
    def ended(self) -> bool:
        """Nothing of it is pending."""
        return all(one.state in ("delivered", "failed") for one in self.deliveries)


def push(
    payload: Mapping[str, Any], tokens: Sequence[str] = (), headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The part of a message that is an Apple push. *headers*: Apple's own, as ``apns-priority``."""
    return {
        "media_type": "message/vnd.msys.apn",
        "tokens": list(tokens),
        "headers": dict(headers or {}),
        "json": dict(payload),
    }


def message(
    to: Sequence[str],
    parts: Sequence[Mapping[str, Any]],
    *,
    sender: str = "",
    headers: Mapping[str, str] | None = None,
    schedule: datetime | float | None = None,
    expires: datetime | float | None = None,
) -> dict[str, Any]:
    """A message as the API takes it. *schedule*, *expires*: with a time zone, or seconds since the epoch."""
    given: dict[str, Any] = {"to": list(to), "parts": [dict(part) for part in parts]}
    if sender:
        given["from"] = sender
    if headers:
        given["headers"] = dict(headers)
    for name, at in (("schedule", schedule), ("expires", expires)):
        if at is not None:
            given[name] = _time(at)
    return given


class Client:
    """One connection to an engine, opened when it is needed and again when it is lost."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 30.0,
        attempts: int = 6,
        context: ssl.SSLContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """*timeout*: seconds without an answer until a request is sent again. *attempts*: how often it is sent."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected a URL such as http://127.0.0.1:8025, got {url!r}")
        if not _is_token(token):
            # What http.client says of such a one repeats it.
            raise ValueError("the token is not one word of ASCII; give what mcmt apikey has shown, and nothing else")
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._headers = {"Authorization": f"Bearer {token}"}
        self._timeout = timeout
        self._attempts = attempts
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(
        self,
        to: Sequence[str],
        parts: Sequence[Mapping[str, Any]],
        *,
        key: str | None = None,
        sender: str = "",
        headers: Mapping[str, str] | None = None,
        schedule: datetime | float | None = None,
        expires: datetime | float | None = None,
    ) -> Sent:
        """Send a message; it is on disk when this returns. Raises RefusedError, UnavailableError."""
        given = message(to, parts, sender=sender, headers=headers, schedule=schedule, expires=expires)
        return self._post("/v1/messages", json.dumps(given).encode(), "application/json", key)

    def send_raw(
        self,
        content: bytes,
        to: Sequence[str],
        *,
        key: str | None = None,
        sender: str = "",
        schedule: datetime | float | None = None,
        expires: datetime | float | None = None,
    ) -> Sent:
        """Send a message as it is, MCMT or any other. Raises RefusedError, UnavailableError."""
        query = [("to", one) for one in to]
        query += [("from", sender)] if sender else []
        query += [
            (name, str(_time(at))) for name, at in (("schedule", schedule), ("expires", expires)) if at is not None
        ]
        return self._post(f"/v1/messages?{urlencode(query)}", content, "message/rfc822", key)

    def send_many(
        self, messages: Iterable[Mapping[str, Any]], *, key: str | None = None
    ) -> Iterator[Sent | RefusedError]:
        """Send messages (``message``), LINES in each request; what became of each, in order.

        *key*: of all of them, in this order. Raises RefusedError where a whole request is refused, UnavailableError.
        """
        key = key or str(uuid.uuid4())
        rest = iter(messages)
        number = 0
        while some := list(islice(rest, LINES)):
            number += 1
            body = b"".join([json.dumps(one).encode() + b"\n" for one in some])
            headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"{key}-{number}"}
            yield from self._again(lambda body=body, headers=headers, some=some: self._bulk(body, headers, len(some)))  # type: ignore[misc]

    def status(self, message_id: str) -> Status:
        """Where every delivery of a message stands. Raises RefusedError (404: it is not known), UnavailableError."""
        deliveries: list[Delivery] = []
        path: str | None = f"/v1/messages/{message_id}"
        while path is not None:
            answer = self._again(lambda path=path: self._json("GET", path, None, {}, 200))  # type: ignore[misc]
            known = Delivery.__dataclass_fields__
            told = [{name: value for name, value in one.items() if name in known} for one in answer["deliveries"]]
            deliveries += [Delivery(**one) for one in told]
            path = answer.get("next")
        return Status(answer["id"], answer["received"], answer["total"], tuple(deliveries))

    # -- requests -----------------------------------------------------------------------------------------------------

    def _post(self, path: str, body: bytes, media_type: str, key: str | None) -> Sent:
        headers = {"Content-Type": media_type, "Idempotency-Key": key or str(uuid.uuid4())}
        answer = self._again(lambda: self._json("POST", path, body, headers, 202))
        return Sent(answer["id"], answer["deliveries"], answer["replayed"])

    def _again(self, request: Callable[[], _T]) -> _T:
        """Make a request until it is answered for good."""
        pause = 0.1
        for attempt in range(1, self._attempts + 1):
            try:
                return request()
            except _LOST as error:
                self.close()
                reason, wait = str(error) or type(error).__name__, 0.0
            except _ComeAgainError as error:
                reason, wait = str(error), error.wait
            if attempt < self._attempts:
                # No two clients that were turned away together come back together.
                self._sleep(min(_LONGEST_WAIT, max(wait, pause) * random.uniform(1.0, 1.5)))  # noqa: S311 - no secret
                pause *= 2
        raise UnavailableError(f"{self._host}: tried {self._attempts} times: {reason}")

    def _json(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], wanted: int) -> Any:
        response = self._request(method, path, body, headers)
        content = response.read()
        _check(response.status, wanted, response.getheader("Retry-After"), content)
        answer = _read(content, "id")
        answer["replayed"] = response.getheader("Idempotency-Replayed") == "true"
        return answer

    def _bulk(self, body: bytes, headers: Mapping[str, str], count: int) -> list[Sent | RefusedError]:
        response = self._request("POST", "/v1/messages", body, headers)
        content = response.read()
        _check(response.status, 200, response.getheader("Retry-After"), content)
        answers = [_read(line, "status") for line in content.splitlines()]
        for answer in answers:
            # Those that were kept are known by their keys when all of them come again.
            if answer["status"] in _AGAIN:
                raise _ComeAgainError(f"{answer['status']} {answer['detail']}", float(answer.get("retry_after", 0)))
        if len(answers) != count:
            raise http.client.IncompleteRead(content)
        return [
            Sent(answer["id"], answer["deliveries"])
            if answer["status"] == 202
            else RefusedError(answer["status"], answer["detail"], answer.get("field", ""))
            for answer in answers
        ]

    def _request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = (
                http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
                if self._context is None
                else http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
            )
        try:
            self._connection.request(method, self._prefix + path, body, {**self._headers, **headers})
        except (BrokenPipeError, ConnectionResetError):
            # A refusal may be answered before the whole request was read; it is the reason then.
            if self._connection.sock is None:
                raise
        return self._connection.getresponse()


class AsyncClient:
    """The same for asyncio: up to *connections* requests at once."""

    def __init__(self, url: str, token: str, *, connections: int = 8, **options: Any) -> None:
        """*options*: of each Client."""
        self._idle: queue.SimpleQueue[Client] = queue.SimpleQueue()
        self._clients = [Client(url, token, **options) for _ in range(connections)]
        for client in self._clients:
            self._idle.put(client)
        self._threads = ThreadPoolExecutor(connections, "mcmt-client")

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for the requests under way, and hang up."""
        await asyncio.to_thread(self._threads.shutdown)
        for client in self._clients:
            client.close()

    async def send(self, to: Sequence[str], parts: Sequence[Mapping[str, Any]], **options: Any) -> Sent:
        """See Client."""
        return await self._run(lambda client: client.send(to, parts, **options))

    async def send_raw(self, content: bytes, to: Sequence[str], **options: Any) -> Sent:
        """See Client."""
        return await self._run(lambda client: client.send_raw(content, to, **options))

    async def send_many(
        self, messages: Iterable[Mapping[str, Any]], *, key: str | None = None
    ) -> list[Sent | RefusedError]:
        """See Client; all of the answers."""
        return await self._run(lambda client: list(client.send_many(messages, key=key)))

    async def status(self, message_id: str) -> Status:
        """See Client."""
        return await self._run(lambda client: client.status(message_id))

    async def _run(self, call: Callable[[Client], _T]) -> _T:
        def run() -> _T:
            client = self._idle.get()
            try:
                return call(client)
            finally:
                self._idle.put(client)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


class _ComeAgainError(Exception):
    """The engine asks for the same request later: ``wait`` seconds, if it said so."""

    def __init__(self, text: str, wait: float) -> None:
        super().__init__(text)
        self.wait = wait


def _read(content: bytes, wanted: str) -> dict[str, Any]:
    """What is in an answer of the status that was expected; one without *wanted* may be a proxy's, and pass."""
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or wanted not in answer:
        raise _ComeAgainError(f"an answer that is none of the API: {content[:200].decode(errors='replace')}", 0)
    return answer


def _check(status: int, wanted: int, retry_after: str | None, content: bytes) -> None:
    if status == wanted:
        return
    try:
        problem = json.loads(content)
        detail, blamed = str(problem["detail"]), str(problem.get("field", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        detail, blamed = content[:200].decode(errors="replace").strip(), ""
    if status in _AGAIN:
        wait = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
        raise _ComeAgainError(f"{status} {detail}", wait)
    raise RefusedError(status, detail, blamed)


def _time(at: datetime | float) -> str | float:
    if not isinstance(at, datetime):
        return at
    if at.tzinfo is None:
        raise ValueError("a time needs a time zone, as in datetime.now(UTC)")
    return at.isoformat()
