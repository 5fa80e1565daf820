"""Reverse-paths, forward-paths and parameters of MAIL and RCPT (RFC 5321 4.1.1.2, 4.1.1.3, 4.1.2).

Rules: a path is taken as it is written, or not at all; a plain one is read by one regular expression, any other by
three. Values in, values out; what is wrong is a MessageError with the reply.

The standard library's parser, which aiosmtpd asks, is for header fields: it takes comments out and decodes encoded
words, so that ``<"=?utf-8?q?a=0D=0AX?="@b>`` is an address with a line end in it; and it fails on some others.
"""

from __future__ import annotations

import re

from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.message.address import domain_of

# RFC 5321 4.1.2: Dot-string = Atom *("."  Atom); Atom = 1*atext (RFC 5322 3.2.3).
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++"
# Domain = sub-domain *("." sub-domain); sub-domain = Let-dig [Ldh-str]; Ldh-str ends in a letter or digit.
_SUB_DOMAIN = r"[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+"
_MAILBOX = rf"{_ATEXT}(?:\.{_ATEXT})*+@{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*+"
# Path = "<" [ A-d-l ":" ] Mailbox ">"; Reverse-path = Path / "<>". Some clients put spaces after the colon.
# Measured: 0.3 us for a plain path with these expressions (0.5 us with greedy ones that are IGNORECASE as a whole),
# 38 us with aiosmtpd's parser; a message has at least two.
_is_plain = {
    keyword: re.compile(rf"(?i:{keyword}): *<({_MAILBOX}|)>(?: +(.*))?").fullmatch for keyword in ("FROM", "TO")
}
# Where any other path ends: at the ">" that is not inside a quoted string, and before a space or the end.
_ANY = re.compile(r'(FROM|TO): *(<(?:[^<>"]|"(?:[^"\\]|\\.)*")*>|[^<>" ]+)(?: +(.*))?', re.IGNORECASE)
# RFC 6531 3.3: atext, qtextSMTP and sub-domain take what is not ASCII; control characters and line ends among it we do
# not. Beyond the grammar: dots anywhere in a local part and underscores in a domain, which are there in the field.
_OTHER = r"\u00a0-\u2027\u202a-\ud7ff\ue000-\U0010ffff"
_DOT_STRING = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.{_OTHER}-]++"
# Quoted-string = DQUOTE *QcontentSMTP DQUOTE; quoted-pairSMTP = %d92 %d32-126.
_QUOTED = rf'"(?:[ !#-\[\]-~{_OTHER}]|\\[ -~])*+"'
_ANY_DOMAIN = rf"[A-Za-z0-9_{_OTHER}-]++(?:\.[A-Za-z0-9_{_OTHER}-]++)*+"
# address-literal = "[" ... "]"; dcontent = %d33-90 / %d94-126.
_LITERAL = r"\[[!-Z^-~]++\]"
# Path = "<" [ A-d-l ":" ] Mailbox ">"; A-d-l = At-domain *( "," At-domain ).
_read_mailbox = re.compile(
    rf"(?:@{_ANY_DOMAIN}(?:,@{_ANY_DOMAIN})*+:)?((?:{_DOT_STRING}|{_QUOTED})@(?:{_ANY_DOMAIN}|{_LITERAL}))"
).fullmatch
# esmtp-param = esmtp-keyword ["=" esmtp-value]; esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-").
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]+))?")

_SYNTAX = {
    "FROM": "Syntax: MAIL FROM:<address> [SIZE=n] [BODY=7BIT|8BITMIME] [SMTPUTF8]",
    "TO": "Syntax: RCPT TO:<address>",
}
# RFC 3463 3.2: X.1.7 bad sender's mailbox address syntax, X.1.3 bad destination mailbox address syntax.
_BAD_MAILBOX = {"FROM": "5.1.7", "TO": "5.1.3"}


def read_path(argument: str, keyword: str) -> tuple[str, str]:
    """The address and the parameters in *argument* of MAIL (*keyword* FROM) or RCPT (TO).

    The null reverse-path is ``""``. A source route is dropped (RFC 5321 appendix C). Raises MessageError.
    """
    plain = _is_plain[keyword](argument)
    if plain is not None:
        address, parameters = plain.groups()
    else:
        match = _ANY.fullmatch(argument)
        if match is None or match[1].upper() != keyword:
            raise MessageError(501, "5.5.4", _SYNTAX[keyword])
        address, parameters = _read_any(match[2], keyword), match[3]
    if len(address) > limits.DOMAIN and (len(address) > limits.PATH or len(domain_of(address)) > limits.DOMAIN):
        text = f"the address is longer than {limits.PATH} octets, or its domain than {limits.DOMAIN}"
        raise MessageError(501, _BAD_MAILBOX[keyword], text)
    if not address and keyword == "TO":
        raise MessageError(553, "5.1.3", "a recipient cannot be empty")
    return address, parameters or ""


def _read_any(path: str, keyword: str) -> str:
    inner = path[1:-1] if path.startswith("<") else path
    if found := _read_mailbox(inner):
        return found[1]
    # RFC 5321 4.5.1: RCPT TO:<postmaster> stands without a domain; whoever asked for TO completes it.
    if keyword == "TO" and inner.lower() == "postmaster":
        return inner
    wrong = f"{path} is not an address" if "@" in inner else f"{path} has no domain"
    raise MessageError(553, _BAD_MAILBOX[keyword], wrong)


def read_parameters(text: str) -> dict[str, str]:
    """The parameters by name in upper case; one without a value is ``""``. Raises MessageError."""
    found: dict[str, str] = {}
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        name = match[1].upper() if match else ""
        if match is None or name in found:
            raise MessageError(501, "5.5.4", f"{word} is not a parameter, or is given twice")
        found[name] = match[2] or ""
    return found
