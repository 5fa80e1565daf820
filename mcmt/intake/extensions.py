"""What MAIL and RCPT may ask for beyond the mail itself: RFC 3461 (DSN), 4865 (FUTURERELEASE), 2852 (DELIVERBY),
6710 (MT-PRIORITY).

Pure: the parameters of one command in, values out. Each function takes its own parameters out of what it is given;
whoever asked refuses what is left (555). A value that is not exactly of its RFC's grammar is 501, and what passes is
printable ASCII: no control character gets from here into a log, a header or a report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from mcmt.errors import MessageError
from mcmt.message.notification import DELAY, FAILURE, NEVER, SUCCESS
from mcmt.message.priority import class_of
from mcmt.message.xtext import decode_xtext

DSN: Final = "DSN"
FUTURERELEASE: Final = "FUTURERELEASE"
DELIVERBY: Final = "DELIVERBY"
MT_PRIORITY: Final = "MT-PRIORITY"
PROFILE: Final = "MIXER"
"""The levels of RFC 6710 that are told apart: those of MIXER, non-urgent, normal and urgent."""
MIN_BY_TIME: Final = 1
"""Seconds: the least that BY may ask for with the mode R (RFC 2852 4)."""
MAX_ENVID: Final = 100
"""Characters as they are sent (RFC 3461 4.4)."""
MAX_ORCPT: Final = 500
"""Characters as they are sent, type included (RFC 3461 4.2)."""

_NOTIFY = {"SUCCESS": SUCCESS, "FAILURE": FAILURE, "DELAY": DELAY}
_RET = frozenset({"FULL", "HDRS"})
# RFC 3461 4.2: what ENVID and ORCPT stand for is printable US-ASCII.
_is_printable = re.compile(r"[ -~]+").fullmatch
# RFC 3464 2.1.2: an address type is an atom.
_is_type = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}").fullmatch
# RFC 4865 3: future-release-integer = %x31-39 *8DIGIT.
_is_interval = re.compile(r"[1-9][0-9]{0,8}").fullmatch
# RFC 3339 5.6, as RFC 4865 has it by its erratum 2040.
_is_date_time = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
# RFC 2852 4: by-value = by-time ";" by-mode [by-trace]; by-time = ["-" / "+"] 1*9digit.
# RFC 6710 4: priority-value = (["-"] NZDIGIT) / "0".
_is_priority = re.compile(r"-?[1-9]|0").fullmatch
_by_value = re.compile(r"([+-]?[0-9]{1,9});([NRnr])([Tt]?)").fullmatch


class MailRequests(NamedTuple):
    """What MAIL asked for. Times are seconds since the epoch."""

    ret: str = ""
    envid: str = ""
    due: float = 0.0
    """Not before; 0: at once."""
    deadline: float = 0.0
    """Not after; 0: nothing was said."""
    tell_late: float = 0.0
    """When the sender is told that it is late; 0: nothing was said."""
    trace: bool = False
    """The sender wants to hear that it was handed on."""
    priority: int | None = None
    """Its class (mcmt/message/priority.py); None: nothing was said."""
    release: str = ""
    """As of Envelope: what was asked for, in the sender's words."""


class RcptRequests(NamedTuple):
    """What RCPT asked for."""

    notify: int = 0
    """As of mcmt.message.notification.Asked."""
    original: str = ""


def keywords(discarded: frozenset[str], max_future_release: float) -> Iterator[str]:
    """The lines in the answer to EHLO. That of FUTURERELEASE lacks its second limit, a time, which goes by the clock:
    see ``future_limit``."""
    if DSN not in discarded:
        yield DSN
    if offers_release(discarded, max_future_release):
        # RFC 4865 3: max-future-release-interval and max-future-release-date-time, both required.
        yield f"{FUTURERELEASE} {int(max_future_release)} {UNTIL.decode()}"
    if DELIVERBY not in discarded:
        yield f"{DELIVERBY} {MIN_BY_TIME}"
    if MT_PRIORITY not in discarded:
        yield f"{MT_PRIORITY} {PROFILE}"


UNTIL: Final = b"$until"
"""Where ``future_limit`` belongs in the answer to EHLO."""


def offers_release(discarded: frozenset[str], max_future_release: float) -> bool:
    """Whether messages may be held here."""
    return FUTURERELEASE not in discarded and max_future_release >= 1


def future_limit(now: float, max_future_release: float) -> bytes:
    """The time up to which a message may be held (RFC 3339)."""
    return datetime.fromtimestamp(now + int(max_future_release), UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def read_mail(
    parameters: dict[str, str], discarded: frozenset[str], max_future_release: float, now: float
) -> MailRequests:
    """What MAIL asks for at *now*. Raises MessageError."""
    ret = envid = ""
    if DSN not in discarded:
        ret, envid = _read_ret(parameters), _read_envid(parameters)
    due, release = 0.0, ""
    if offers_release(discarded, max_future_release):
        due, release = _read_hold(parameters, max_future_release, now)
    deadline, late, trace = 0.0, 0.0, False
    if DELIVERBY not in discarded:
        deadline, late, trace = _read_by(parameters, now)
    if due and 0 < (deadline or late) <= due:
        raise _wrong("BY", "is over before the message is released")
    priority = None if MT_PRIORITY in discarded else _read_mt_priority(parameters)
    return MailRequests(ret, envid, due, deadline, late, trace, priority, release)


def read_rcpt(parameters: dict[str, str], discarded: frozenset[str]) -> RcptRequests:
    """What RCPT asks for. Raises MessageError."""
    if DSN in discarded:
        return RcptRequests()
    return RcptRequests(_read_notify(parameters), _read_orcpt(parameters))


def _wrong(name: str, what: str, enhanced: str = "5.5.4") -> MessageError:
    return MessageError(501, enhanced, f"{name} {what}")


def _decode(name: str, value: str) -> str:
    text = decode_xtext(value)
    if text is None:
        raise _wrong(name, "is not xtext (RFC 3461 4)")
    if not _is_printable(text):
        raise _wrong(name, "stands for nothing, or for other characters than printable ASCII")
    return text


def _read_ret(parameters: dict[str, str]) -> str:
    value = parameters.pop("RET", None)
    if value is None:
        return ""
    # RFC 3461 4.3: ret-value = "FULL" / "HDRS"; as all keywords in ABNF in whatever case.
    if value.upper() not in _RET:
        raise _wrong("RET", "takes FULL or HDRS")
    return value.upper()


def _read_envid(parameters: dict[str, str]) -> str:
    value = parameters.pop("ENVID", None)
    if value is None:
        return ""
    if len(value) > MAX_ENVID:
        raise _wrong("ENVID", f"has at most {MAX_ENVID} characters")
    return _decode("ENVID", value)


def _read_notify(parameters: dict[str, str]) -> int:
    value = parameters.pop("NOTIFY", None)
    if value is None:
        return 0
    words = value.upper().split(",")
    # RFC 3461 4.1: NEVER stands alone.
    if words == ["NEVER"]:
        return NEVER
    if len(set(words)) < len(words) or not all(word in _NOTIFY for word in words):
        raise _wrong("NOTIFY", "takes NEVER, or some of SUCCESS,FAILURE,DELAY, each once")
    return sum(_NOTIFY[word] for word in words)


def _read_orcpt(parameters: dict[str, str]) -> str:
    value = parameters.pop("ORCPT", None)
    if value is None:
        return ""
    kind, semicolon, address = value.partition(";")
    if kind.lower() == "utf-8" and not address.isascii():
        # RFC 6533 3: utf-8-addr-unitext, kept in the form that a 7bit report has, and that other servers are told.
        address = "".join([each if each.isascii() else f"\\x{{{ord(each):X}}}" for each in address])
    if not (semicolon and _is_type(kind) and len(kind) + 1 + len(address) <= MAX_ORCPT):
        raise _wrong("ORCPT", f"takes a type, a semicolon and an address, of at most {MAX_ORCPT} characters")
    return f"{kind};{_decode('ORCPT', address)}"


def _read_hold(parameters: dict[str, str], limit: float, now: float) -> tuple[float, str]:
    """When it is due, and what was asked for."""
    interval, until = parameters.pop("HOLDFOR", None), parameters.pop("HOLDUNTIL", None)
    if interval is None and until is None:
        return 0.0, ""
    if interval is not None and until is not None:
        raise _wrong("HOLDFOR", "and HOLDUNTIL exclude each other")
    if interval is not None:
        if not _is_interval(interval):
            raise _wrong("HOLDFOR", "takes seconds, 1 to 999999999")
        due = now + int(interval)
    else:
        due = _date_time(until or "")
        if due <= now:
            raise _wrong("HOLDUNTIL", "is past")
    if due > now + int(limit):
        raise _wrong("HOLDFOR" if interval else "HOLDUNTIL", f"is more than {int(limit)} seconds ahead")
    # RFC 4865 5.1.2: orig-hold-param-value.
    return due, f"for;{interval}" if interval else f"until;{until}"


def _date_time(text: str) -> float:
    try:
        if _is_date_time(text.upper()):
            return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        pass
    raise _wrong("HOLDUNTIL", "takes a time such as 2026-12-24T18:00:00Z (RFC 3339)")


def _read_by(parameters: dict[str, str], now: float) -> tuple[float, float, bool]:
    """The deadline, when the sender is told that it is late, and whether it wants to hear that it was handed on."""
    value = parameters.pop("BY", None)
    if value is None:
        return 0.0, 0.0, False
    found = _by_value(value)
    if found is None:
        raise _wrong("BY", "takes seconds, a semicolon, and R or N, as in BY=120;R")
    seconds, trace = int(found[1]), bool(found[3])
    if found[2] in "Nn":
        # RFC 2852 4: what is over already was told by whoever had the message before.
        return 0.0, now + seconds if seconds > 0 else 0.0, trace
    # RFC 2852 4: with R a time that is over is an error.
    if seconds < MIN_BY_TIME:
        raise _wrong("BY", f"takes at least {MIN_BY_TIME} second with R")
    return now + seconds, 0.0, trace


def _read_mt_priority(parameters: dict[str, str]) -> int | None:
    value = parameters.pop(MT_PRIORITY, None)
    if value is None:
        return None
    if not _is_priority(value):
        # RFC 6710 4.1: X.5.2, syntax error.
        raise _wrong(MT_PRIORITY, "takes a whole number from -9 to 9", "5.5.2")
    return class_of(int(value))
