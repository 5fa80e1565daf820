"""A request, and what Apple says about it whoever sends it: path, headers, payload, device token.

Sources: Apple, "Sending notification requests to APNs", "Generating a remote notification". Pure
functions: a request in, Apple's reason or nothing out. Where Apple's pages leave the answer open,
docs/simulator.md says what was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

MAX_PAYLOAD = 4096
MAX_VOIP_PAYLOAD = 5120
MAX_COLLAPSE_ID = 64

_DEVICE = "/3/device/"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EXPIRATION = re.compile(r"[0-9]{1,10}")
_HEX = re.compile(r"[0-9a-fA-F]+")
_PRIORITIES = frozenset({"1", "5", "10"})
_SINGLE = frozenset(
    {
        "authorization",
        "apns-id",
        "apns-expiration",
        "apns-priority",
        "apns-topic",
        "apns-collapse-id",
        "apns-push-type",
    }
)


class Request(msgspec.Struct):
    """One request, whole."""

    headers: Mapping[str, str]
    """Pseudo-headers too; values decoded as Latin-1, so a character is an octet."""
    duplicates: frozenset[str]
    """Names of header fields that came more than once."""
    payload: bytes
    size: int
    """Octets of payload that came; more than ``payload`` holds where it was too large to keep."""

    @property
    def token(self) -> str:
        """The device token in the path; empty when there is none."""
        path = self.headers.get(":path", "")
        return path[len(_DEVICE) :] if path.startswith(_DEVICE) else ""


def _method(request: Request) -> str:
    return "" if request.headers.get(":method") == "POST" else "MethodNotAllowed"


def _path(request: Request) -> str:
    path = request.headers.get(":path", "")
    if not path.startswith(_DEVICE):
        return "MissingDeviceToken" if path == _DEVICE[:-1] else "BadPath"
    if not request.token:
        return "MissingDeviceToken"
    return "BadPath" if "/" in request.token or "?" in request.token else ""


def _duplicates(request: Request) -> str:
    return "DuplicateHeaders" if request.duplicates & _SINGLE else ""


def _apns_id(request: Request) -> str:
    value = request.headers.get("apns-id")
    return "" if value is None or _UUID.fullmatch(value) else "BadMessageId"


def _expiration(request: Request) -> str:
    value = request.headers.get("apns-expiration")
    return "" if value is None or _EXPIRATION.fullmatch(value) else "BadExpirationDate"


def _priority(request: Request) -> str:
    # Apple: 10 when omitted, and 10 is an error for a background notification.
    value = request.headers.get("apns-priority", "10")
    if value not in _PRIORITIES:
        return "BadPriority"
    return "BadPriority" if value == "10" and request.headers.get("apns-push-type") == "background" else ""


def _collapse_id(request: Request) -> str:
    return "BadCollapseId" if len(request.headers.get("apns-collapse-id", "")) > MAX_COLLAPSE_ID else ""


def _payload(request: Request) -> str:
    voip = request.headers.get("apns-push-type") == "voip"
    if request.size > (MAX_VOIP_PAYLOAD if voip else MAX_PAYLOAD):
        return "PayloadTooLarge"
    try:
        return "" if msgspec.json.decode(request.payload, type=dict[str, object]) else "PayloadEmpty"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "PayloadEmpty"


def device_token_fault(token: str, any_length: bool) -> str:
    """Apple's reason for refusing *token*; whole bytes, 64 to 200 hex digits, unless *any_length*."""
    if not _HEX.fullmatch(token):
        return "BadDeviceToken"
    whole = 64 <= len(token) <= 200 and len(token) % 2 == 0
    return "" if whole or any_length else "BadDeviceToken"


Check = Callable[[Request], str]
SHAPE: tuple[Check, ...] = (_method, _path, _duplicates)
"""Asked before anybody's identity, in this order."""
FIELDS: tuple[Check, ...] = (_apns_id, _expiration, _priority, _collapse_id)
"""Asked once the sender is known to be good."""
CONTENT: tuple[Check, ...] = (_payload,)
"""Asked once the topic is known to be good."""


def first_fault(checks: tuple[Check, ...], request: Request) -> str:
    """The first reason that *checks* give; empty when there is none."""
    for check in checks:
        if reason := check(request):
            return reason
    return ""
