"""Many messages in one request: a JSON message a line in, an answer a line out, in their order, as they are kept.

Rules: so many lines are on their way at once and no more, so that their commits are shared and memory is bounded; a
line that is refused concerns no other, and one that is too long is thrown away as it comes; with a key, each line has
one of its own, made of the key and the line's number, so that a request that is sent again gives the same ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import msgspec
from aiohttp import web

from mcmt.clock import Clock
from mcmt.config.settings import HttpAddressSettings
from mcmt.intake.http.acceptance import Acceptance, Client, once_of
from mcmt.intake.http.problem import Problem, no_room, too_large
from mcmt.intake.http.submission import Submission, read_json
from mcmt.intake.memory import IntakeMemory

Tell: TypeAlias = Callable[[int, bytes, Submission | None, bytes], None]
AT_ONCE: Final = 256
"""Lines of one request on their way to the disk."""


class Bulk:
    """One request."""

    def __init__(
        self,
        request: Any,
        client: Client,
        settings: HttpAddressSettings,
        acceptance: Acceptance,
        memory: IntakeMemory,
        clock: Clock,
        tell: Tell,
    ) -> None:
        """*tell*: called with every line's number, the line, what it was read as, and its answer."""
        self._tell = tell
        self._request = request
        self._client = client
        self._settings = settings
        self._acceptance = acceptance
        self._memory = memory
        self._clock = clock
        self._answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(AT_ONCE)

    async def answer(self, key: str | None) -> Any:
        """Read all lines, and answer each. Raises Problem before the first of them."""
        once_of(key, self._client.token)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Server": "mcmt"})
        await response.prepare(self._request)
        writer = asyncio.get_running_loop().create_task(self._write(response), name="bulk answers")
        number = 0
        try:
            try:
                # Closed here, and not when it is collected: until then what it holds counts in the memory.
                async with aclosing(self._lines()) as lines:
                    async for line in lines:
                        number += 1
                        await self._put(writer, self._one(number, line, key))
            except Problem as problem:
                await self._put(writer, self._refused(number + 1, None, problem))
                response.force_close()
            await self._put(writer, None)
            await writer
        finally:
            # The client has gone, or the engine ends: what is on its way to the disk is finished without us.
            writer.cancel()
        await response.write_eof()
        return response

    async def _put(self, writer: asyncio.Task[None], answer: Any) -> None:
        task = None if answer is None else asyncio.get_running_loop().create_task(answer)
        if not (self._answers.full() or writer.done()):
            self._answers.put_nowait(task)
            return
        put = asyncio.ensure_future(self._answers.put(task))
        # A client that reads no answers any more ends the reading of its lines too.
        await asyncio.wait((put, writer), return_when=asyncio.FIRST_COMPLETED)
        if not put.done():
            put.cancel()
            await writer

    async def _write(self, response: Any) -> None:
        """Write what is ready, in order: one write for all that is."""
        while True:
            task = await self._answers.get()
            lines = []
            while task is not None:
                # Not awaited as it is: who ends this would end a message on its way to the disk.
                await asyncio.wait((task,))
                lines.append(task.result())
                if self._answers.empty() or len(lines) >= AT_ONCE:
                    break
                task = self._answers.get_nowait()
            if lines:
                try:
                    await asyncio.wait_for(response.write(b"".join(lines)), self._settings.data_timeout)
                except TimeoutError:
                    raise ConnectionResetError("nobody reads the answers (data_timeout)") from None
            if task is None:
                return

    async def _lines(self) -> AsyncGenerator[bytes | None, None]:
        """The lines that are not empty, None for one that is too long; the octets of each are the receiver's to give
        back. Raises Problem."""
        limit, memory, content = self._settings.max_message_size, self._memory, self._request.content
        held = bytearray()
        start = 0  # what stands before it has been given away
        skips = False
        try:
            while piece := await self._next(content):
                if not memory.take(len(piece)):
                    raise no_room()
                held += piece
                while (end := held.find(b"\n", start)) >= 0:
                    line = bytes(held[start:end])
                    memory.give_back(1)
                    start = end + 1
                    if line.strip() and not skips:
                        yield line
                    else:
                        memory.give_back(len(line))
                    skips = False
                del held[:start]
                start = 0
                if skips or len(held) > limit:
                    memory.give_back(len(held))
                    held.clear()
                    if not skips:
                        skips = True
                        yield None
            if held.strip():
                line, held = bytes(held), bytearray()
                yield line
        finally:
            memory.give_back(len(held) - start)

    async def _next(self, content: Any) -> bytes:
        try:
            async with asyncio.timeout(self._settings.data_timeout):
                piece: bytes = await content.readany()
                return piece
        except TimeoutError:
            raise Problem(408, "nothing came for too long (data_timeout)", enhanced="4.4.2") from None

    async def _one(self, number: int, line: bytes | None, key: str | None) -> bytes:
        submission: Submission | None = None
        client = self._client
        try:
            if line is None or len(line) > self._settings.max_message_size:
                raise too_large(self._settings.max_message_size, "the line")
            submission = read_json(line, client.token, self._clock.time())
            once = once_of(key, client.token, line, line=number)
            accepted = await self._acceptance.accept(client, submission, once, len(line))
        except Problem as problem:
            answer = await self._refused(number, submission, problem)
        else:
            told = {"line": number, "status": 202, "id": accepted.batch_id, "deliveries": accepted.deliveries}
            answer = msgspec.json.encode(told) + b"\n"
        finally:
            self._memory.give_back(len(line or b""))
        self._tell(number, line or b"", submission, answer)
        return answer

    async def _refused(self, number: int, submission: Submission | None, problem: Problem) -> bytes:
        self._acceptance.refuse(self._client, submission, problem)
        more = {"retry_after": problem.retry_after} if problem.retry_after else {}
        return problem.body(line=number, **more) + b"\n"
