"""What a delivery is alone to say on its device (``replace_queued``): a key of its token and its part's collapse id.

Pure. The spool holds such keys against each other, and knows nothing of what they are made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from mcmt.channel.port import Reading
from mcmt.message.model import Part


def collapse_ids(readings: Iterable[Reading], parts: Mapping[Part, int]) -> Mapping[int, str]:
    """By the index of a part: its collapse id, where it has one."""
    return {parts[reading.part]: reading.collapse_id for reading in readings if reading.collapse_id}


def collapse_key(collapse_id: str, token: str) -> bytes:
    """16 octets: no two of a domain are equal but those of one token and one collapse id."""
    return hashlib.blake2b(f"{token}\0{collapse_id}".encode(), digest_size=16).digest()
