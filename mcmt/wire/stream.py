"""What a stream needs to have remembered."""

from __future__ import annotations


class Stream:
    """A stream with something under way: a request body that waits, or a response that began.

    Most streams never have one. A request that went out whole is a bare int in the connection's table,
    the octets its window has been charged with, until its answer arrives in one frame.
    """

    __slots__ = ("block", "body", "charged", "content", "empty_frames", "received", "sent", "status")

    def __init__(self, charged: int) -> None:
        self.charged = charged
        """Octets sent less the peer's WINDOW_UPDATEs. The window is its INITIAL_WINDOW_SIZE less this, so a change
        of that setting moves every stream's window (RFC 9113 section 6.9.2) without a walk over the streams."""
        self.body = b""
        """The request's body while part of it is unsent."""
        self.sent = 0
        self.status = 0
        """Of the final response; 0 until its HEADERS came."""
        self.block = b""
        self.content: bytes | bytearray = b""
        """The response's body so far."""
        self.received = 0
        """Octets of DATA with their padding: what the receive window counts."""
        self.empty_frames = 0
