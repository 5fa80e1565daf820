"""What a client says to its gateway, for those who watch (mcmt/wire/trace.py)."""

from __future__ import annotations

from collections.abc import Sequence

from mcmt.wire.apns_binary import Fault, Notification
from mcmt.wire.trace import Trace

BINARY = "binary"
"""As the trace of our own connections calls the protocol."""


def show_received(trace: Trace, notifications: Sequence[Notification], fault: Fault | None) -> None:
    """These have come; *fault*: what stands behind them cannot be read."""
    for number, one in enumerate(notifications):
        if not trace.has_room:
            trace.left_out(len(notifications) - number)
            return
        given = (("identifier", one.identifier), ("expiration", one.expiration), ("priority", one.priority))
        fields = [(name, str(value)) for name, value in given if value is not None]
        fields.append(("token", one.token.hex()))
        trace.tell("received", f"command {one.command}", fields=fields, octets=len(one.payload), body=one.payload)
    if fault is not None:
        trace.tell("received", "what cannot be read", fault.text)
