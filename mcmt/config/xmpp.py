"""``xmpp_component``: the XMPP servers whose component the engine is, read into XmppSettings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, Field

from mcmt.config.channel_schema import Channels
from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.gateways import check_push_domain
from mcmt.config.listeners import parse_address
from mcmt.config.schema import HostName
from mcmt.config.settings import INTAKE_COPIES, DomainSettings
from mcmt.config.xmpp_settings import EVERYONE, XmppSettings
from mcmt.message.address import routing_name
from mcmt.message.failure import is_mailbox
from mcmt.options import OptionsModel, Size

STANZA: Final = "xmpp_component"
PLACEHOLDERS: Final = frozenset({"sender", "body", "count"})
"""What may stand in braces in what is shown."""
_LONGEST_TEXT: Final = 200
_DEFAULTS: Final[Mapping[str, Any]] = {
    field.name: field.default for field in msgspec.structs.fields(XmppSettings) if not field.required
}


def _text(value: str) -> str:
    if len(value) > _LONGEST_TEXT:
        raise ValueError(f"expected at most {_LONGEST_TEXT} characters")
    if unknown := set(re.findall(r"\{(\w*)\}", value)) - PLACEHOLDERS:
        known = ", ".join(f"{{{name}}}" for name in sorted(PLACEHOLDERS))
        raise ValueError(f"there is no {{{min(unknown)}}}; there are {known}")
    return value


Text = Annotated[str, AfterValidator(_text)]


class XmppStanza(OptionsModel):
    """``xmpp_component``, one XMPP server"""

    SECRETS = frozenset({"secret"})

    jid: HostName
    secret: Annotated[str, Field(min_length=1)]
    domain: str
    apps: Annotated[dict[str, str], Field(min_length=1)] | None = None
    servers: Annotated[list[str], Field(min_length=1)] | None = None
    """None: the domain that ``jid`` is a part of."""
    alert_title: Text | None = None
    """None: there is no title."""
    alert_body: Text = _DEFAULTS["alert_body"]
    badge: bool = _DEFAULTS["badge"]
    sound: Annotated[str, Field(max_length=_LONGEST_TEXT)] = _DEFAULTS["sound"]
    mutable_content: bool = _DEFAULTS["mutable_content"]
    return_path: str | None = None
    """None: nobody hears of failures."""
    max_stanza_size: Annotated[Size, Field(ge=10_000)] = _DEFAULTS["max_stanza_size"]
    """XMPP's own least is 10,000 (RFC 6120 13.12)."""


def read_xmpp(
    checker: Checker, channels: Channels, domains: Mapping[str, DomainSettings], memory: int
) -> tuple[XmppSettings, ...]:
    """Every server that is right; none without the stanza. *memory*: bytes of ``max_intake_bytes`` of one process."""
    if STANZA not in checker.data:
        return ()
    entries = checker.mapping((STANZA,), checker.data[STANZA])
    if not entries:
        checker.fault((STANZA,), 'there is no XMPP server; add one such as "127.0.0.1:5347": {...}', key=True)
    found: list[XmppSettings] = []
    for address, options in entries.items():
        path: Path = (STANZA, address)
        if address in XmppStanza.model_fields:
            checker.fault(path, f'belongs to an XMPP server below {STANZA}, such as "127.0.0.1:5347"', key=True)
            continue
        stanza, _ = checker.stanza(XmppStanza, path, options)
        try:
            host, port = parse_address(address)
            if host is None or not port:
                raise ValueError('expected the XMPP server\'s address and port for components: "127.0.0.1:5347"')
        except ValueError as error:
            checker.fault(path, str(error), key=True)
            continue
        if stanza is None:
            continue
        for place, name in (
            ("domain", stanza.domain),
            *((("apps", app), its) for app, its in (stanza.apps or {}).items()),
        ):
            where: Path = (*path, place) if isinstance(place, str) else (*path, *place)
            check_push_domain(checker, channels, domains, where, name)
        if stanza.return_path and not is_mailbox(stanza.return_path):
            checker.fault((*path, "return_path"), "expected a mail address such as push@example.com")
        jid = stanza.jid.lower()
        parent = jid.partition(".")[2]
        if stanza.servers is None and "." not in parent:
            checker.fault(
                path, f"servers: {jid} is no part of a domain; name the XMPP domains that are served", key=True
            )
        if (needed := INTAKE_COPIES * stanza.max_stanza_size) > memory:
            checker.fault(
                (*path, "max_stanza_size"),
                f"a stanza of {stanza.max_stanza_size} bytes needs {needed} bytes of esmtp_listener.max_intake_bytes, "
                f"and there are {memory}, so that it would never fit; change one",
            )
        if EVERYONE in (stanza.servers or ()):
            text = 'are "*": users of every XMPP server that reaches yours may register devices and push to them'
            checker.warn((*path, "servers"), text)
        values = {option: getattr(stanza, option) for option in XmppStanza.model_fields}
        values |= {
            "jid": jid,
            "domain": routing_name(stanza.domain),
            "apps": {app: routing_name(name) for app, name in (stanza.apps or {}).items()},
            "servers": frozenset(map(str.lower, stanza.servers or [parent])),
            "alert_title": stanza.alert_title or "",
            "return_path": stanza.return_path or "",
        }
        if any((one.host, one.port, one.jid) == (host, port, jid) for one in found):
            checker.fault(path, f"{jid} is connected there already", key=True)
        found.append(XmppSettings(host=host, port=port, **values))
    return tuple(found)
