"""An MCMT message with one apn part, put together from what ``mcmt send`` was given.

Pure. Rule: the payload's bytes are what the gateway is to get, so that anything but a short line of JSON in printable
ASCII is sent as base64.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence

_MAX_PLAIN = 900
"""Bytes of a line that every relay passes on (RFC 5321 4.5.3.1.6: 1,000)."""
_FIELD = re.compile(r"([!-9;-~]+):[ \t]*([^\x00-\x1f\x7f]*)")
"""A header field on one line (RFC 5322 2.2)."""
_plain = re.compile(rb"\{[ -~]*").fullmatch


def parse_field(text: str) -> tuple[str, str]:
    """Name and value of ``apns-priority: 5``. Raises ValueError."""
    match = _FIELD.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a header field such as 'apns-priority: 5', got {text!r}")
    return match[1], match[2].strip()


def make_payload(alert: str | None, title: str | None, badge: int | None, sound: str | None) -> bytes:
    """The JSON of a notification: https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification."""
    aps: dict[str, object] = {}
    if title is not None:
        aps["alert"] = {"title": title} if alert is None else {"title": title, "body": alert}
    elif alert is not None:
        aps["alert"] = alert
    if badge is not None:
        aps["badge"] = badge
    if sound is not None:
        aps["sound"] = sound
    return json.dumps({"aps": aps}, ensure_ascii=False, separators=(",", ":")).encode()


def make_message(
    sender: str,
    recipient: str,
    tokens: Sequence[str],
    fields: Sequence[tuple[str, str]],
    payload: bytes,
    boundary: str,
) -> bytes:
    """The message, lines ended by CR LF. *fields* go with the apn part, as ``apns-topic`` and its like."""
    encoding, content = "7bit", payload
    if len(payload) > _MAX_PLAIN or not _plain(payload):
        encoding, content = "base64", base64.encodebytes(payload).replace(b"\n", b"\r\n").rstrip()
    inner = [*(f"X-Device-Token: {token}" for token in tokens), *(f"{name}: {value}" for name, value in fields)]
    lines = [
        f"From: <{sender}>",
        f"To: <{recipient}>",
        "MIME-Version: 1.0",
        f"Content-Type: multipart/vnd.msys.mcmt; boundary={boundary}",
        "",
        f"--{boundary}",
        "Content-Type: message/vnd.msys.apn",
        "",
        *inner,
        f"Content-Transfer-Encoding: {encoding}",
        "",
    ]
    head = "".join(f"{line}\r\n" for line in lines).encode()
    return head + content + f"\r\n--{boundary}--\r\n".encode()
