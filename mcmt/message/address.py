"""Mail addresses as far as routing needs them (RFC 5321 4.1.2), and names of domains by which mail is routed.

A domain has one routing name, however it is written: lower case, without a final dot, every label that is not ASCII as
its A-label (RFC 5890 2.3.2.1). So an internationalised domain is the same in a stanza, an address and a log line.
"""

from __future__ import annotations

import re
from encodings.idna import nameprep

# RFC 3490 3.1: these too are dots.
_DOT = re.compile("[.\u3002\uff0e\uff61]")
# RFC 5892 2.6, appendix A: sharp s, final sigma and the joiners are letters of their own now; nameprep would lose them.
_STRANGE = re.compile(r"[^A-Za-z0-9_\u0080-\U0010ffff-]").search
_KEPT = re.compile("([\u00df\u03c2\u200c\u200d])")


def domain_of(address: str) -> str:
    """The routing name of a forward-path's domain: what follows the last ``@``."""
    domain = address.rpartition("@")[2]
    return domain.lower().rstrip(".") if domain.isascii() else routing_name(domain)


def local_part_of(address: str) -> str:
    """What stands before the last ``@``; the whole address where there is none."""
    local, at, _ = address.rpartition("@")
    return local if at else address


def routing_name(domain: str) -> str:
    """The name by which *domain* is routed. What cannot be an internationalised name stays as it is written."""
    if domain.isascii():
        return domain.lower().rstrip(".")
    try:
        return ".".join(map(_to_ascii, _DOT.split(domain))).rstrip(".")
    except UnicodeError:
        return domain.lower().rstrip(".")


def _to_ascii(label: str) -> str:
    """The A-label of *label* (RFC 3490 4.1: prepared by nameprep, RFC 3491, then Punycode, RFC 3492)."""
    if not label.isascii():
        label = "".join([piece if _KEPT.match(piece) else nameprep(piece) for piece in _KEPT.split(label.lower())])
    # RFC 3490 4.1, UseSTD3ASCIIRules, but for the underscore: nameprep makes of U+FF0A the "*" that stands for every
    # domain, of others a blank, an "@", or what a shell obeys.
    if _STRANGE(label):
        raise UnicodeError("no name of a host")
    return label.lower() if label.isascii() else f"xn--{label.encode('punycode').decode()}"
