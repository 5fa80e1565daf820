"""What a session with a smarthost says, for whoever watches it (mcmt/wire/trace.py)."""

from __future__ import annotations

import asyncio

from mcmt.wire.trace import MAX_BODY, Trace

from .replies import Reply


def show_opened(trace: Trace, address: str) -> None:
    """TCP is up."""
    trace.protocol, trace.peer = "smtp", address
    trace.tell("event", "connected")


def show_tls(trace: Trace, transport: asyncio.Transport) -> None:
    """TLS stands between from now on."""
    version, cipher = (transport.get_extra_info("ssl_object").version(), transport.get_extra_info("cipher"))
    trace.tell("event", "tls", ", ".join(filter(None, (version, cipher[0] if cipher else ""))))


def show_commands(trace: Trace, commands: bytes) -> None:
    """Commands that are written now, many where the server takes them so."""
    trace.protocol = "smtp"
    for line in commands.splitlines():
        trace.tell("sent", "command", line.decode("utf-8", "backslashreplace"))


def show_content(trace: Trace, chunk: memoryview) -> None:
    """Part of a message."""
    trace.tell("sent", "content", octets=len(chunk), body=bytes(chunk[:MAX_BODY]))


def show_reply(trace: Trace, reply: Reply) -> None:
    """A reply, all its lines."""
    trace.protocol = "smtp"
    trace.tell("received", "reply", str(reply))
