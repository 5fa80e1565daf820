r"""Escaping: what keeps a log line one line, and its columns apart.

In every value the backslash, the quotation mark, ``@``, control characters (C0, DEL, C1), the line and
paragraph separators U+2028 and U+2029, and bytes that were not UTF-8 (they arrive as surrogate escapes,
PEP 383) become ``\xHH``, one for each byte of their UTF-8 form. Everything else stands as it is. So a
reader undoes it by turning ``\xHH`` back into bytes and decoding the whole as UTF-8.

Rules: pure; most values have nothing to escape and cost one regular-expression search (about 0.1 us).
"""

from __future__ import annotations

import re

_CONTROLS = "\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff"
_SPECIAL = re.compile(f'[{_CONTROLS}"@\\\\]')
_SPECIAL_BUT_AT = re.compile(f'[{_CONTROLS}"\\\\]')
_UNDECODABLE = re.compile("[\ud800-\udfff]")
_SPECIAL_IN_LIST = re.compile(f'[{_CONTROLS}"\\\\,=\\[\\] ]')

_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")

has_special = _SPECIAL_BUT_AT.search
"""A match where a text holds something to escape other than ``@``, else None."""


def _hexadecimal(match: re.Match[str]) -> str:
    character = match[0]
    # PEP 383: U+DC80 to U+DCFF stand for the single bytes 80 to FF.
    octets = character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")
    return "".join([f"\\x{octet:02X}" for octet in octets])


def escape(text: str) -> str:
    """*text* as it stands in a column of a log whose columns are parted by ``@``."""
    return _SPECIAL.sub(_hexadecimal, text) if _SPECIAL.search(text) else text


def escape_address(text: str) -> str:
    """*text* escaped, but for its last ``@``, which a reader of an address expects."""
    if not _SPECIAL_BUT_AT.search(text) and text.count("@") < 2:
        return text
    local, at, domain = text.rpartition("@")
    return escape(local) + at + escape(domain)


def escape_quoted(text: str) -> str:
    """*text* as it stands between quotation marks or at the end of a line, where ``@`` parts nothing."""
    return _SPECIAL_BUT_AT.sub(_hexadecimal, text) if _SPECIAL_BUT_AT.search(text) else text


def escape_in_list(text: str) -> str:
    """*text* as it stands unquoted in a line parted by spaces, or in a list ``[k=v,k=v]``."""
    return _SPECIAL_IN_LIST.sub(_hexadecimal, text) if _SPECIAL_IN_LIST.search(text) else text


def escape_undecodable(text: str) -> str:
    """*text* with only the bytes that were not UTF-8 escaped, for a format that has its own escapes."""
    return _UNDECODABLE.sub(_hexadecimal, text)


def escape_json(text: str) -> str:
    """*text*, which is JSON, with the control characters and line ends in it that JSON leaves as they are escaped."""
    return text if text.isascii() and "\x7f" not in text else _UNSAFE_IN_JSON.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
