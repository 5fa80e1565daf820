"""What those who watch a domain are told of requests for messages, and of the lines of one that has many
(mcmt/intake/exchanges.py).

Rule: of a submission that cannot be read it is guessed whose it is: that of every watched domain which stands in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from mcmt.intake.exchanges import Exchanges, Said
from mcmt.intake.http.connection import HttpConnection
from mcmt.intake.http.submission import Submission
from mcmt.message.address import domain_of
from mcmt.wire.trace import Tracing

_GUESSED: Final = 64 * 1024
"""Octets that are looked through for a domain."""


class Watching:
    """Of one address."""

    def __init__(self, tracing: Tracing, protocol: str) -> None:
        self._tracing = tracing
        self._protocol = protocol

    @property
    def on(self) -> bool:
        """Somebody watches something."""
        return bool(self._tracing.watched)

    def request(self, connection: HttpConnection, request: Any, response: Any) -> None:
        """A request that is in ``asked``, and its answer."""
        assert connection.asked is not None  # noqa: S101 - see above
        (body, submission), connection.asked = connection.asked, None
        domains = self._domains(submission, request.rel_url.query_string, body)
        if domains:
            content = bytes(response.body or b"")
            asked = Said(f"{request.method} {request.path_qs}", tuple(request.headers.items()), len(body), body)
            status = HTTPStatus(response.status)
            fields = tuple(response.headers.items())
            answered = Said(f"{status.value} {status.phrase}", fields, len(content), content, True)
            self._exchanges(connection).tell(domains, asked, answered)

    def line(
        self, connection: HttpConnection, number: int, line: bytes, submission: Submission | None, answer: bytes
    ) -> None:
        """A line and its answer."""
        if self.on and (domains := self._domains(submission, "", line)):
            text = f"line {number}"
            asked, answered = Said(text, (), len(line), line), Said(text, (), len(answer), answer, True)
            self._exchanges(connection).tell(domains, asked, answered)

    def _domains(self, submission: Submission | None, query: str, body: bytes) -> Iterable[str]:
        watched = self._tracing.watched
        if submission is not None:
            return {domain for one in submission.recipients if (domain := domain_of(one)) in watched}
        text = (query.encode("utf-8", "replace") + b" " + body[:_GUESSED]).lower()
        return [domain for domain in watched if b"@" + domain.encode("utf-8", "replace") in text]

    def _exchanges(self, connection: HttpConnection) -> Exchanges:
        if connection.exchanges is None:
            connection.exchanges = Exchanges(self._tracing, connection.peer, self._protocol)
        return connection.exchanges
