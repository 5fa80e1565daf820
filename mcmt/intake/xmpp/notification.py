"""What an XMPP server tells of a message, as a push. Pure.

A notification without a body is a push in the background that wakes the app: so servers tell of receipts and the like.
What is shown otherwise is the configuration's to say; by default nothing of what was written, nor by whom.

Rules: a push is never too large for the gateway: what the server told is cut. A surrogate or a control character cannot
come: XML has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcmt.config.xmpp_settings import XmppSettings
from mcmt.intake.xmpp.stanza import Jid
from mcmt.message.model import Part

MEDIA_TYPE: Final = "message/vnd.msys.apn"
_LONGEST: Final[Mapping[str, int]] = {"sender": 200, "body": 1000, "count": 10}
"""Characters that are shown."""
# With a sound of up to 800 bytes and the names around them below Apple's 4,096.
_TITLE: Final = 600
_BODY: Final = 2400
"""Bytes in JSON of what is shown; the rest is cut off."""
_QUIET: Final = b'{"aps":{"content-available":1}}'


def push(summary: Mapping[str, str] | None, tokens: Sequence[str], registered: float, settings: XmppSettings) -> Part:
    """The push to *tokens*. *registered*: when they were last, seconds since the epoch; 0: nobody knows."""
    headers = [("x-device-token", ",".join(tokens))]
    if registered:
        # Up: a token that is gone since the same second is one that is there again.
        headers.append(("x-device-registered", str(int(registered) + 1)))
    body = (summary or {}).get("last-message-body", "").strip()
    if not body:
        headers += [("apns-push-type", "background"), ("apns-priority", "5")]
        return Part(MEDIA_TYPE, tuple(headers), _QUIET)
    headers += [("apns-push-type", "alert"), ("apns-priority", "10")]
    content = json.dumps({"aps": _aps(summary or {}, body, settings)}, ensure_ascii=False, separators=(",", ":"))
    return Part(MEDIA_TYPE, tuple(headers), content.encode("utf-8", "replace"))


def _aps(summary: Mapping[str, str], body: str, settings: XmppSettings) -> dict[str, Any]:
    count = summary.get("message-count", "").strip()
    told = {
        "sender": Jid.of(summary.get("last-message-sender", "").strip()).bare,
        "body": body,
        "count": count if count.isascii() and count.isdigit() else "",
    }
    told = {name: value[: _LONGEST[name]] for name, value in told.items()}
    title, shown = _filled(settings.alert_title, told, _TITLE), _filled(settings.alert_body, told, _BODY)
    aps: dict[str, Any] = {"alert": {"title": title, "body": shown} if title else shown}
    if settings.badge and told["count"]:
        aps["badge"] = int(told["count"])
    if settings.sound:
        aps["sound"] = settings.sound
    if settings.mutable_content:
        aps["mutable-content"] = 1
    return aps


def _filled(text: str, told: Mapping[str, str], most: int) -> str:
    # By pieces: what was told is not looked through for braces.
    pieces = text.split("{")
    filled = pieces[0]
    for piece in pieces[1:]:
        name, brace, rest = piece.partition("}")
        filled += told[name] + rest if brace and name in told else "{" + piece
    filled = filled.strip()
    # A character takes 4 bytes at most.
    while (over := len(json.dumps(filled, ensure_ascii=False).encode("utf-8", "replace")) - most) > 0:
        filled = filled[: -(over // 4 + 1)]
    return filled
