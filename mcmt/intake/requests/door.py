"""What a door for requests gives, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from mcmt.wire.http1 import Refusal, Request, Response
from mcmt.wire.trace import Tracing


class About:
    """What a request turned out to be about, for those who watch."""

    __slots__ = ("domain", "public", "shown")

    def __init__(self) -> None:
        self.domain = ""
        """Empty: it is not known."""
        self.public = False
        """There is no payload in the answer."""
        self.shown: Callable[[], bytes] | None = None
        """Makes what may be shown of its body; None: all of it may."""


class Client(NamedTuple):
    """Who makes a request."""

    peer: str
    connection_id: str
    about: About
    """For the door to say."""


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
    protocol: str
    """Its word in the main log."""

    @property
    def tracing(self) -> Tracing:
        """Who watches a domain."""

    async def answer(self, request: Request, client: Client) -> Answer:
        """The answer to *request*. It says that something was taken only when it is on disk."""

    def busy(self, text: str) -> Response:
        """What a client is told for whom there is no room now."""

    def refuse(self, refusal: Refusal) -> Response:
        """What a client is told whose request cannot be read."""
