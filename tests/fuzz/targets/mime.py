"""The MIME parser: MessageError and nothing else, and what it accepts the standard library reads as the same parts."""

from __future__ import annotations

import email
import re
from email.message import Message

from mcmt.errors import MessageError
from mcmt.message.mime import MAX_PARTS, ParsedMessage, context_variables, parse

LONGEST = 4096

_PLAIN_TYPE = re.compile(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+(;.*)?", re.DOTALL)


def run(data: bytes) -> None:
    """One input: a message as the SMTP door hands it over, lines ended by CR LF and no NUL."""
    lines = data.replace(b"\0", b"").replace(b"\r", b"").split(b"\n")
    message = b"\r\n".join(lines) + b"\r\n"
    try:
        parsed = parse(message)
        context_variables(parsed.headers)
    except MessageError as error:
        assert error.code in (550, 552, 554), error
        assert error.enhanced.startswith("5."), error
        return
    assert message.startswith(parsed.header_block)
    assert len(parsed.parts) <= MAX_PARTS
    for part in parsed.parts:
        assert part.media_type == part.media_type.lower()
        assert len(part.content) <= len(message)
        for name, value in part.headers:
            assert name == name.lower()
            assert not set(name + value) & set("\r\n"), (name, value)
    if parsed.is_mcmt:
        _compare(parsed, message)


def _compare(parsed: ParsedMessage, message: bytes) -> None:
    """Where the standard library has nothing to object to, it finds the same."""
    theirs = email.message_from_bytes(message)
    if not theirs.is_multipart() or not _is_clean(theirs):
        return
    if any(not part.headers and not part.content for part in parsed.parts):
        return  # of boundary lines right behind each other the standard library drops all but the first
    parts = theirs.get_payload()
    assert isinstance(parts, list)
    assert len(parts) == len(parsed.parts), (len(parts), parsed.parts)
    for part, their in zip(parsed.parts, parts, strict=True):
        assert isinstance(their, Message)
        # Of what is nested in a part the standard library makes objects again; here it is content.
        if their.is_multipart() or part.media_type.startswith(("message/", "multipart/")):
            continue
        if not _PLAIN_TYPE.fullmatch(str(their.get("content-type", "text/plain"))):
            continue  # RFC 2045 5.1 does not allow it, and both guess
        if any(name.startswith("{") for name in their):
            continue  # such a line is no field here: it ends the block (mcmt/message/header_fields.py)
        assert part.media_type == their.get_content_type(), (part, their.as_bytes())
        assert part.content == their.get_payload(decode=True), (part, their.as_bytes())


def _is_clean(message: Message) -> bool:
    """No defects, and no encoding that one of the two refuses or guesses at."""
    for part in message.walk():
        encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
        if part.defects or encoding not in ("", "7bit", "8bit", "binary"):
            return False
    return True
