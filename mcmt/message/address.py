"""Mail addresses as far as routing needs them (RFC 5321 4.1.2)."""

from __future__ import annotations


def domain_of(address: str) -> str:
    """The routing domain of a forward-path: what follows the last ``@``, lower case, without a final dot."""
    return address.rpartition("@")[2].lower().rstrip(".")


def local_part_of(address: str) -> str:
    """What stands before the last ``@``; the whole address where there is none."""
    local, at, _ = address.rpartition("@")
    return local if at else address
