"""What a client is told that is refused: RFC 9457 problem details, from whatever went wrong."""

from __future__ import annotations

from typing import Final

import msgspec

from mcmt.errors import MessageError, OutboxAway, SpoolError, SpoolFull

CONTENT_TYPE: Final = "application/problem+json"
SOON: Final = 1
"""Seconds until a client should come again where a process is being started, or memory is short."""
LATER: Final = 30
"""Seconds until it should where the disk is full."""

TITLES: Final = {
    400: "The request cannot be understood",
    401: "A token is needed",
    403: "The token may not do this",
    404: "There is no such thing",
    405: "This method is not for this resource",
    408: "The request did not come in time",
    413: "The request is too large",
    415: "This media type is not taken",
    422: "The key was used for another message",
    429: "Too many messages are being received",
    500: "An error of ours",
    503: "The message cannot be kept now",
}


class Problem(Exception):  # noqa: N818 - an answer, by the name that RFC 9457 gives it
    """An answer that ends a request. ``field``: the one to blame, as ``parts[0].tokens``; empty: none alone."""

    def __init__(
        self, status: int, detail: str, field: str = "", retry_after: int = 0, enhanced: str = "5.0.0"
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}
        self.enhanced = enhanced
        """For the ledger (RFC 3463)."""

    def body(self, **more: object) -> bytes:
        """The problem as JSON. *more*: members beside its own."""
        members: dict[str, object] = {
            **more,
            "type": "about:blank",
            "title": TITLES[self.status],
            "status": self.status,
            "detail": self.detail,
        }
        if self.field:
            members["field"] = self.field
        return msgspec.json.encode(members)

    @property
    def refusal(self) -> MessageError:
        """The same for the ledger."""
        text = f"{self.field}: {self.detail}" if self.field else self.detail
        return MessageError(self.status, self.enhanced, text)


# RFC 3463 3: X.1 and X.5.3 are about addresses, everything else that is said of a message is about what is in it.
_FIELDS: Final = (("5.1.7", "from"), ("5.1.", "to"), ("5.5.3", "to"), ("5.6.", "parts"))


def of_message(error: MessageError, field: str = "") -> Problem:
    """A message that cannot be accepted."""
    found = field or next((name for prefix, name in _FIELDS if error.enhanced.startswith(prefix)), "")
    return Problem(400, error.text, found, enhanced=error.enhanced)


def of_spool(error: SpoolError) -> Problem:
    """A message that was not kept; as in an SMTP reply, what is behind it is the operator's to know."""
    if isinstance(error, SpoolFull):
        return Problem(503, "the disk is full; nothing was kept", retry_after=LATER, enhanced="4.3.1")
    if isinstance(error, OutboxAway):
        return Problem(503, "a process is being started; nothing was kept", retry_after=SOON, enhanced="4.3.0")
    detail = "it is not known to be kept: send it again, with the Idempotency-Key that it had"
    return Problem(503, detail, retry_after=SOON, enhanced="4.3.0")


def no_room() -> Problem:
    """The memory for what is being received is in use."""
    detail = "too many messages are being received (max_intake_bytes); try again later"
    return Problem(429, detail, retry_after=SOON, enhanced="4.3.1")


def too_large(limit: int, what: str = "the body") -> Problem:
    """More than ``max_message_size``."""
    return Problem(413, f"{what} is larger than {limit} bytes (max_message_size)", enhanced="5.3.4")
