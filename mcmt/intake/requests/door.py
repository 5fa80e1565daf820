"""What a door for requests gives, and what it is given."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mcmt.wire.http1 import Refusal, Request, Response


class Client(NamedTuple):
    """Who makes a request."""

    peer: str
    connection_id: str


class Answer(NamedTuple):
    """A response, and what is to be done once the client has it."""

    response: Response
    received: Callback | None = None
    """Called when the client has all of it and has closed, or has made its next request: not when it was killed
    before."""


class Callback(Protocol):
    """See Answer."""

    async def __call__(self) -> None:
        """The client has it."""


class RequestDoor(Protocol):
    """What is spoken over HTTP on one address."""

    idle_timeout: float
    """Seconds for one whole request, and between two of them."""
    max_message_size: int
    """Octets of a body."""

    async def answer(self, request: Request, client: Client) -> Answer:
        """The answer to *request*. It says that something was taken only when it is on disk."""

    def busy(self, text: str) -> Response:
        """What a client is told for whom there is no room now."""

    def refuse(self, refusal: Refusal) -> Response:
        """What a client is told whose request cannot be read."""
