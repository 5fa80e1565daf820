"""The trace field that every server puts in front of what it passes on (RFC 5321 4.4), and the count of those there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

from mcmt.errors import MessageError
from mcmt.message.model import Sender

MAX_HOPS = 100
"""Received fields that a message may have when it comes here (RFC 5321 6.3)."""

_count_received = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE).findall


def received_field(name: str, sender: Sender, recipient: str) -> bytes:
    """Our Received field; *recipient* is empty where there are several. One clause a line, so that none is long."""
    clauses = [f"by {name}"]
    if sender.peer:
        # RFC 5321 4.1.3: IPv6-address-literal = "IPv6:" IPv6-addr.
        literal = f"IPv6:{sender.peer}" if ":" in sender.peer else sender.peer
        clauses.insert(0, f"from [{literal}]")
        clauses[-1] += " with ESMTP"
    clauses[-1] += f" id {sender.batch_id}"
    if recipient.isascii() and recipient:
        clauses.append(f"for <{recipient}>")
    date = format_datetime(datetime.fromtimestamp(sender.received, UTC))
    return ("Received: " + "\r\n\t".join(clauses) + f";\r\n\t{date}\r\n").encode()


def refuse_loops(header: bytes) -> None:
    """Raises MessageError 554 5.4.6 for a header block with MAX_HOPS Received fields."""
    hops = len(_count_received(header))
    if hops >= MAX_HOPS:
        raise MessageError(554, "5.4.6", f"the message has been through {hops} servers already; it runs in circles")
