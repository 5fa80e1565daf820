"""Registering a device by an ad-hoc command (XEP-0050), as apps do with the app servers that there were. Pure.

``register-push-apns`` (token, device-id) is Conversations' and Monal's way and takes a token in hex or base64;
``v1-register-push`` (type, node, token) that of mod_push_appserver. Both are answered with jid, node and secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

from mcmt.intake.xmpp.stanza import COMMANDS, DATA, Refusal, fields_of, result

REGISTER: Final = "register-push-apns"
NAMES: Final[Mapping[str, str]] = {
    REGISTER: "Register a device for Apple push",
    "unregister-push-apns": "Unregister a device",
    "unregister-push": "Unregister a device",
    "v1-register-push": "Register a device for Apple push",
    "v1-unregister-push": "Unregister a device",
}
"""The commands, by node."""
_LONGEST: Final = 200
_ASKED: Final[Mapping[str, tuple[str, ...]]] = {
    REGISTER: ("token", "device-id"),
    "unregister-push-apns": ("device-id",),
    "unregister-push": ("device-id",),
    "v1-register-push": ("type", "node", "token"),
    "v1-unregister-push": ("type", "node"),
}
is_token = re.compile(r"(?:[0-9A-Fa-f]{2}){16,100}").fullmatch
"""A device token, as far as it can be told from the names that were given here."""


class Command(NamedTuple):
    """What a user wants done."""

    node: str
    device: str
    token: str
    """Hex, lower case; empty: the device is to be unregistered."""
    session: str


class Asked(NamedTuple):
    """Which command, where its form is still to be filled in, or nothing is to be done."""

    answer: str


def read_command(iq: Element, resource: str, session: str) -> Command | Asked | Refusal | None:
    """The command in *iq*; None: there is none. *resource*: the sender's, a name for a device that has none.

    *session*: of a command that begins."""
    command = iq.find(f"{{{COMMANDS}}}command")
    if command is None:
        return None
    node, action = command.get("node", ""), command.get("action", "execute")
    session = command.get("sessionid") or session
    if node not in NAMES:
        return Refusal("cancel", "item-not-found", f"there is no command {node[:80]}")
    if action == "cancel":
        return Asked(result(iq, _command(node, session, "canceled", "")))
    form = command.find(f"{DATA}x")
    if form is None:
        if _ASKED[node] == ("device-id",):
            return Command(node, resource, "", session)
        return Asked(result(iq, _command(node, session, "executing", _form(node))))
    given = fields_of(form)
    if given.get("type", "apns").lower() not in ("apns", "apns-h2"):
        return Refusal("modify", "not-acceptable", "type: devices are pushed to through apns alone")
    device = given.get("device-id") or given.get("node") or resource
    if len(device) > _LONGEST:
        return Refusal("modify", "bad-request", f"device-id: at most {_LONGEST} characters")
    if "token" not in _ASKED[node]:
        return Command(node, device, "", session)
    token = _token(given.get("token", ""))
    if not token:
        return Refusal("modify", "bad-request", "token: expected the device token in hex or base64")
    return Command(node, device, token, session)


def registered(iq: Element, command: Command, jid: str, node: str, secret: str) -> str:
    """The answer that a device is registered."""
    values = {"jid": jid, "node": node, "secret": secret}
    inner = "".join(f"<field var='{var}'><value>{escape(value)}</value></field>" for var, value in values.items())
    form = f"<x xmlns='jabber:x:data' type='result'>{inner}</x>"
    return result(iq, _command(command.node, command.session, "completed", form))


def unregistered(iq: Element, command: Command) -> str:
    """The answer that it is not any more."""
    return result(iq, _command(command.node, command.session, "completed", ""))


def _command(node: str, session: str, status: str, inner: str) -> str:
    at = f"node={quoteattr(node)} sessionid={quoteattr(session)} status='{status}'"
    return f"<command xmlns='{COMMANDS}' {at}>{inner}</command>"


def _form(node: str) -> str:
    fields = "".join(f"<field var='{name}' type='text-single' label='{name}'/>" for name in _ASKED[node])
    form = f"<x xmlns='jabber:x:data' type='form'><title>{NAMES[node]}</title>{fields}</x>"
    return f"<actions execute='complete'><complete/></actions>{form}"


def _token(text: str) -> str:
    """A token in hex; empty: it is none. Hex comes first: its digits are base64's as well."""
    text = "".join(text.split())
    if is_token(text):
        return text.lower()
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return octets.hex() if 16 <= len(octets) <= 100 else ""
