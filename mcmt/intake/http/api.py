"""The resources of the API: what each request is answered with.

Rules: a token is asked for before a body is read; octets are counted in the intake's memory before they are kept; 202
is said when the message is on disk; whatever is refused is in the ledger.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from mcmt.clock import Clock
from mcmt.config.settings import HttpAddressSettings, HttpTokenSettings
from mcmt.errors import SpoolError
from mcmt.intake.http.acceptance import PHASE, PROTOCOL, Acceptance, Client, once_of
from mcmt.intake.http.bulk import Bulk
from mcmt.intake.http.connection import HttpConnection
from mcmt.intake.http.openapi import document
from mcmt.intake.http.problem import CONTENT_TYPE, Problem, no_room, of_spool, too_large
from mcmt.intake.http.standing import PAGE, tell
from mcmt.intake.http.submission import Submission, is_raw, read_json, read_raw
from mcmt.intake.http.tokens import Tokens
from mcmt.intake.http.watching import Watching
from mcmt.intake.memory import IntakeMemory
from mcmt.message.model import Envelope
from mcmt.message.trace_context import VARIABLE as TRACEPARENT

log = logging.getLogger(__name__)

MESSAGES: Final = "/v1/messages"
SERVER: Final = "mcmt"
_JSON: Final = "application/json"
_NDJSON: Final = ("application/x-ndjson", "application/jsonl")
_Handler = Callable[[Any, HttpConnection], Awaitable[Any]]


class Api:
    """The API on one address."""

    def __init__(
        self,
        settings: HttpAddressSettings,
        tokens: Tokens,
        acceptance: Acceptance,
        memory: IntakeMemory,
        clock: Clock,
        connections: dict[Any, HttpConnection],
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._acceptance = acceptance
        self._memory = memory
        self._clock = clock
        self._connections = connections
        self._watching = Watching(acceptance.reception.tracing, PROTOCOL)
        self._document = document()

    def reload(self, settings: HttpAddressSettings) -> None:
        """Other settings hold for what is asked from now on."""
        self._settings = settings

    def application(self) -> Any:
        """What aiohttp serves."""
        application = web.Application()
        for method, path, handler in (
            ("POST", MESSAGES, self._post),
            ("GET", MESSAGES + "/{id}", self._get),
            ("GET", "/v1/openapi.json", self._openapi),
        ):
            application.router.add_route(method, path, self._guarded(handler))
            application.router.add_route("*", path, self._guarded(self._other_method(method)))
        application.router.add_route("*", "/{rest:.*}", self._guarded(self._nothing))
        return application

    def _guarded(self, handler: _Handler) -> Callable[[Any], Awaitable[Any]]:
        async def guarded(request: Any) -> Any:
            connection = self._connections[request.protocol]
            connection.begin()
            try:
                response = await handler(request, connection)
            except Problem as problem:
                response = web.Response(
                    status=problem.status, body=problem.body(), content_type=CONTENT_TYPE, headers=problem.headers
                )
            except (ConnectionError, web.RequestPayloadError) as error:
                log.info("%s %s: the client has gone: %s", connection.id, connection.peer, error)
                # What was begun cannot be ended, and a client that reads nothing would be waited for without end.
                connection.abort()
                response = web.Response(status=408)
            finally:
                connection.end()
            # Not which server of which version.
            response.headers["Server"] = SERVER
            if connection.asked is not None:
                self._watching.request(connection, request, response)
            return response

        return guarded

    # -- POST /v1/messages -------------------------------------------------------------------------------------------

    async def _post(self, request: Any, connection: HttpConnection) -> Any:
        holder = self._holder(request, connection, "send")
        client = Client(holder, connection.peer, connection.id, request.headers.get(TRACEPARENT, ""))
        media_type = request.content_type
        submission: Submission | None = None
        try:
            if request.headers.get("Content-Encoding", "identity") != "identity":
                raise Problem(415, "send the body as it is, without Content-Encoding", "Content-Encoding")
            key = request.headers.get("Idempotency-Key")
            if media_type in _NDJSON:
                told = partial(self._watching.line, connection)
                bulk = Bulk(request, client, self._settings, self._acceptance, self._memory, self._clock, told)
                return await bulk.answer(key)
            if media_type != _JSON and not is_raw(media_type):
                text = f"expected {_JSON}, {_NDJSON[0]}, message/rfc822 or multipart/vnd.msys.mcmt"
                raise Problem(415, text, "Content-Type")
            body = await self._read(request)
            try:
                if media_type == _JSON:
                    once = once_of(key, client.token, body)
                    submission = read_json(body, client.token, self._clock.time())
                else:
                    content_type = request.headers["Content-Type"]
                    query = request.rel_url.raw_query_string.encode()
                    once = once_of(key, client.token, content_type.encode(errors="surrogateescape"), query, body)
                    pairs = list(request.rel_url.query.items())
                    submission = read_raw(body, content_type, pairs, client.token, self._clock.time())
                accepted = await self._acceptance.accept(client, submission, once, len(body))
            finally:
                self._memory.give_back(len(body))
                if self._watching.on:
                    connection.asked = body, submission
        except Problem as problem:
            self._acceptance.refuse(client, submission, problem)
            raise
        place = f"{MESSAGES}/{accepted.batch_id}"
        headers = {"Location": place, **({"Idempotency-Replayed": "true"} if accepted.replayed else {})}
        kept = {"id": accepted.batch_id, "deliveries": accepted.deliveries}
        return web.Response(status=202, body=msgspec.json.encode(kept), content_type=_JSON, headers=headers)

    async def _read(self, request: Any) -> bytes:
        """The body; its octets are taken from the memory, for the caller to give back. Raises Problem."""
        limit, memory = self._settings.max_message_size, self._memory
        if (request.content_length or 0) > limit:
            raise too_large(limit)
        # Not a list of what came: an octet that comes by itself would weigh many times what it counts.
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.data_timeout):
                while piece := await request.content.readany():
                    if len(body) + len(piece) > limit:
                        raise too_large(limit)
                    if not memory.take(len(piece)):
                        raise no_room()
                    body += piece
        except BaseException as error:
            memory.give_back(len(body))
            if isinstance(error, TimeoutError):
                raise Problem(408, "the body did not come in time (data_timeout)", enhanced="4.4.2") from None
            raise
        return bytes(body)

    def _holder(self, request: Any, connection: HttpConnection, scope: Literal["send", "status"]) -> HttpTokenSettings:
        try:
            return self._tokens.holder(request.headers.get("Authorization"), scope)
        except Problem as problem:
            envelope = Envelope("", (), connection.peer, connection.id, PROTOCOL)
            self._acceptance.reception.reject(envelope, PHASE, problem.refusal)
            raise

    # -- the others --------------------------------------------------------------------------------------------------

    async def _get(self, request: Any, connection: HttpConnection) -> Any:
        token = self._holder(request, connection, "status")
        after, limit = (_number(request, name, default) for name, default in (("after", 0), ("limit", PAGE)))
        batch_id = request.match_info["id"]
        try:
            standing = await self._acceptance.tracker.standing(batch_id, after, min(max(limit, 1), PAGE) + 1)
        except SpoolError as error:
            raise of_spool(error) from error
        # Whose message it is is not told to others.
        if standing is None or standing.known.sender != token.name:
            raise Problem(404, f"there is no message {batch_id[:100]} of yours, or not any more")
        return web.Response(body=tell(standing, min(max(limit, 1), PAGE)), content_type=_JSON)

    async def _openapi(self, request: Any, connection: HttpConnection) -> Any:  # noqa: ARG002 - a handler's
        return web.Response(body=self._document, content_type=_JSON)

    async def _nothing(self, request: Any, connection: HttpConnection) -> Any:  # noqa: ARG002 - a handler's
        raise Problem(404, "see /v1/openapi.json for what there is")

    def _other_method(self, method: str) -> _Handler:
        async def refuse(request: Any, connection: HttpConnection) -> Any:  # noqa: ARG001 - a handler's
            problem = Problem(405, f"{request.method} is not for this resource: {method} is")
            problem.headers["Allow"] = method if method == "POST" else f"{method}, HEAD"
            raise problem

        return refuse


def _number(request: Any, name: str, default: int) -> int:
    text = request.rel_url.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(400, "expected a whole number", name)
    return int(text)
