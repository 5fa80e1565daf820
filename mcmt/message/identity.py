"""Ids: made once at intake, and every other id derived from them.

A batch id is the first 24 hex digits of a UUIDv7 (RFC 9562 5.7): 48 bits of milliseconds, version,
12 random bits, variant, 30 random bits. The last 32 bits of the UUID are left for the number of the
delivery, so that the apns-id of delivery n needs no storage, no hashing, and survives any crash; and
an operator who holds an apns-id holds the batch id.
"""

from __future__ import annotations

from collections.abc import Callable


def new_batch_id(now: float, random_bits: Callable[[int], int]) -> str:
    """A batch id for a message received at *now* (seconds since the epoch)."""
    milliseconds = int(now * 1000) & 0xFFFF_FFFF_FFFF
    noise = random_bits(42)
    return f"{milliseconds:012x}{0x7000 | noise >> 30:04x}{0x8000_0000 | noise & 0x3FFF_FFFF:08x}"


def uuid_of(batch_id: str, number: int) -> str:
    """The UUID of a delivery in its canonical form, 8-4-4-4-12 (the apns-id)."""
    return f"{batch_id[:8]}-{batch_id[8:12]}-{batch_id[12:16]}-{batch_id[16:20]}-{batch_id[20:]}{number:08x}"
