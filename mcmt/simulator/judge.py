"""Whether Apple would take a request from this sender on this connection, and if not, its reason.

Sources: Apple, "Sending notification requests to APNs", "Establishing a token-based connection to APNs".
The first fault is the answer; the order is that of ``Judge.judge``. It knows no HTTP/2 and no rules.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from mcmt.clock import Clock
from mcmt.simulator.provider_token import ProviderToken, TokenVerifier
from mcmt.simulator.request import CONTENT, FIELDS, SHAPE, Request, device_token_fault, first_fault

TOKEN_LIFETIME = 3600.0
"""Seconds after which a provider token is refused."""
TOKEN_INTERVAL = 1200.0
"""Seconds that lie between the issue times of two tokens on one connection, at least."""
TOKEN_AHEAD = 300.0
"""Seconds that a token's issue time may lie in the future."""

_TOPIC = re.compile(r"[A-Za-z0-9.\-]{1,255}")


class PushType(NamedTuple):
    """What Apple asks of one apns-push-type."""

    suffix: str = ""
    """What the topic ends with, behind the bundle id."""
    token: bool = True
    """Whether a provider token may send it."""
    certificate: bool = True
    """Whether a certificate may send it."""


PUSH_TYPES: dict[str, PushType] = {
    "alert": PushType(),
    "background": PushType(),
    "complication": PushType(".complication"),
    "controls": PushType(".push-type.controls"),
    "fileprovider": PushType(".pushkit.fileprovider"),
    "liveactivity": PushType(".push-type.liveactivity", certificate=False),
    "location": PushType(".location-query", certificate=False),
    "mdm": PushType(token=False),
    "pushtotalk": PushType(".voip-ptt"),
    "voip": PushType(".voip"),
    "widgets": PushType(".push-type.widgets"),
}
_SUFFIXES = tuple(kind.suffix for kind in PUSH_TYPES.values() if kind.suffix)


class Identity(msgspec.Struct):
    """Who is at the other end of a connection, and what its tokens were so far."""

    certificate_topics: tuple[str, ...] | None = None
    """None: no client certificate, so every request needs a provider token."""
    first_key_id: str = ""
    token: str = ""
    issued_at: float = 0.0
    expired: bool = False
    """An expired token was seen: Apple goes on to refuse every token on that connection."""


class Judge:
    """Judges requests against Apple's rules."""

    def __init__(self, verifier: TokenVerifier, topics: frozenset[str], any_token_length: bool, clock: Clock) -> None:
        self._verifier = verifier
        self._topics = topics
        self._any_token_length = any_token_length
        self._clock = clock

    def judge(self, request: Request, identity: Identity) -> str:
        """Apple's reason for refusing *request*; empty when it is good. Notes the token in *identity*."""
        return (
            first_fault(SHAPE, request)
            or self._sender(request, identity)
            or first_fault(FIELDS, request)
            or self._push_type(request, identity)
            or self._topic(request, identity)
            or first_fault(CONTENT, request)
            or device_token_fault(request.token, self._any_token_length)
        )

    def _sender(self, request: Request, identity: Identity) -> str:
        # Apple: with a client certificate the authorization header is ignored.
        if identity.certificate_topics is not None:
            return ""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            return "MissingProviderToken"
        token = self._verifier.verify(text)
        now = self._clock.time()
        if token is None or token.issued_at > now + TOKEN_AHEAD:
            return "InvalidProviderToken"
        if identity.expired or now - token.issued_at > TOKEN_LIFETIME:
            identity.expired = True
            return "ExpiredProviderToken"
        return "" if text == identity.token else _new_token(text, token, identity)

    def _push_type(self, request: Request, identity: Identity) -> str:
        name = request.headers.get("apns-push-type")
        if name is None:
            return ""
        kind = PUSH_TYPES.get(name)
        if kind is None:
            return "InvalidPushType"
        allowed = kind.token if identity.certificate_topics is None else kind.certificate
        return "" if allowed else "InvalidPushType"

    def _topic(self, request: Request, identity: Identity) -> str:
        topic = request.headers.get("apns-topic")
        topics = self._topics if identity.certificate_topics is None else identity.certificate_topics
        if topic is None:
            # A certificate for a single topic stands in for the header.
            return "" if identity.certificate_topics is not None and len(topics) == 1 else "MissingTopic"
        kind = PUSH_TYPES.get(request.headers.get("apns-push-type", ""))
        if not _TOPIC.fullmatch(topic) or (kind is not None and not topic.endswith(kind.suffix)):
            return "BadTopic"
        if topic in topics:
            return ""
        # A key stands for its bundle ids with every suffix; a certificate lists each topic that it has.
        bundle = next((topic[: -len(suffix)] for suffix in _SUFFIXES if topic.endswith(suffix)), topic)
        return "" if identity.certificate_topics is None and bundle in topics else "TopicDisallowed"


def _new_token(text: str, token: ProviderToken, identity: Identity) -> str:
    if identity.first_key_id and token.key_id != identity.first_key_id:
        return "UnrelatedKeyIdInToken"
    if identity.token and abs(token.issued_at - identity.issued_at) < TOKEN_INTERVAL:
        return "TooManyProviderTokenUpdates"
    identity.first_key_id = token.key_id
    identity.token = text
    identity.issued_at = token.issued_at
    return ""
