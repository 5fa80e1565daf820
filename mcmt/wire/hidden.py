"""What of a conversation is a secret, and how it stands where the conversation is shown: hidden.

| what | is shown as |
|---|---|
| the value of a header field that authorizes | its scheme if it is a known one, and how long it is:
  ``bearer ... (245 octets)`` |
| what follows the mechanism of an AUTH command | ``AUTH PLAIN ...`` |
| a device token, unless it is asked for: 32 or more hex digits in a row | ``0123...cdef`` |

Rules: pure. Secrets are hidden whatever is asked for; only device tokens can be asked for.
"""

from __future__ import annotations

import re

# Header fields whose values let whoever knows them act in our name or a client's, those that proxies add among them.
_is_secret = re.compile(
    r"authorization|authentication|(?:^|-)auth(?:-|$)|secret|passw|cookie|api-?key|crypto-key"
    r"|(?:access|security|session|refresh|id|csrf|xsrf)-token",
    re.IGNORECASE,
).search
# RFC 9110 11.4: the scheme is the first word of the credentials, in some of these fields. Where it is none that is
# known, that word may be the secret.
_SCHEMES = frozenset({"basic", "bearer", "digest", "negotiate", "vapid", "webpush"})

_TOKEN = re.compile(r"[0-9A-Fa-f]{32,}")
# RFC 4954 4: the mechanism may be followed by an initial response, which is name and password.
_AUTH = re.compile(r"\A(\s*AUTH\s+\S+).*", re.IGNORECASE | re.DOTALL)
# What looks like a credential wherever it stands: RFC 6750 2.1, and a signed token (RFC 7515 3.1) by itself.
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/._~=-]{8,}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


def hidden_field(name: str, value: str, tokens: bool) -> str:
    """A header field's value as it may be shown; *tokens*: with device tokens."""
    if _is_secret(name):
        scheme = value.partition(" ")[0]
        return f"{scheme if scheme.lower() in _SCHEMES else ''} ... ({len(value)} octets)".lstrip()
    return hidden_text(value, tokens)


def hidden_text(text: str, tokens: bool) -> str:
    """Any other text as it may be shown; *tokens*: with device tokens."""
    if not text:
        return text
    text = _AUTH.sub(r"\1 ...", text)
    text = _JWT.sub("...", _BEARER.sub(r"\1 ...", text))
    return text if tokens else _TOKEN.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    return f"{found[0][:4]}...{found[0][-4:]}"
