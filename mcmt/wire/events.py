"""What a client connection reports: one frozen value for each thing that the peer's bytes completed.

They are msgspec structs with ``gc=False``: an answer is made a thousand times a burst, and neither its
construction (0.05 us; a frozen dataclass of this size takes 0.4 us) nor the garbage collector's walk over
the ones alive may be felt. They hold only numbers and bytes, so no cycle can go through them.
"""

from __future__ import annotations

import msgspec


class Response(msgspec.Struct, frozen=True, gc=False):
    """A final response (status 200 and above) has arrived whole; its stream is closed.

    A RST_STREAM that follows, such as NO_ERROR because the server left the request body unread, changes
    nothing and is not reported (RFC 9113 section 8.1).
    """

    stream_id: int
    status: int
    block: bytes
    """The header block as it came; ``header_block.decode_headers`` reads it."""
    body: bytes


class StreamReset(msgspec.Struct, frozen=True, gc=False):
    """A stream ended without a response."""

    stream_id: int
    code: int
    """RFC 9113 section 7; REFUSED_STREAM means that the request was not processed."""
    reason: str = ""
    """Empty when the peer reset it; otherwise why this side did: what the peer sent cannot be taken."""


class GoAway(msgspec.Struct, frozen=True, gc=False):
    """The peer takes no new streams (RFC 9113 section 6.8).

    Open streams above ``last_stream_id`` were not processed: they are forgotten here, with no event of
    their own, and may go again elsewhere. Those up to it may still be answered. A second GOAWAY may name
    a lower stream; one that names a higher is read as if it had repeated the lowest.
    """

    last_stream_id: int
    code: int
    debug: bytes


class SettingsChanged(msgspec.Struct, frozen=True, gc=False):
    """The peer sent SETTINGS; they are in force and acknowledged."""

    max_concurrent_streams: int
    """2**32 - 1 while the peer has set no limit."""


class PingAcknowledged(msgspec.Struct, frozen=True, gc=False):
    """The peer answered a PING."""

    payload: bytes


Event = Response | StreamReset | GoAway | SettingsChanged | PingAcknowledged
