"""Telling systemd how the service fares (sd_notify(3)): one datagram to ``$NOTIFY_SOCKET``, where there is one.

Rules: never raises; a service manager that cannot be told must not stop the service.
"""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send *state*, as in ``READY=1`` or ``STOPPING=1``; without ``$NOTIFY_SOCKET`` nothing is done."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace, sd_notify(3)
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), address)
