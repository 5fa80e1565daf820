"""Stanzas of a component's stream: who they are from, what they ask, and what is answered. Pure.

Sources: RFC 6120 8 (stanzas, errors), XEP-0060 and XEP-0357 (publish), XEP-0004 (forms), XEP-0030 (disco).

Rules: an id is given back as it came, and is never taken for a name of anything: some servers use one id for every push
to a device. An error always says its type, since servers let go of a subscription by the type alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

STREAM: Final = "jabber:component:accept"
PUBSUB: Final = "{http://jabber.org/protocol/pubsub}"
EVENT: Final = "{http://jabber.org/protocol/pubsub#event}"
PUSH: Final = "{urn:xmpp:push:0}"
DATA: Final = "{jabber:x:data}"
COMMANDS: Final = "http://jabber.org/protocol/commands"
SUMMARY: Final = "urn:xmpp:push:summary"
OFFLINE_NODE: Final = "urn:xmpp:push:nodes:messages"
"""What mod_push_offline publishes whole messages under."""
_DISCO_INFO: Final = "http://jabber.org/protocol/disco#info"
_DISCO_ITEMS: Final = "http://jabber.org/protocol/disco#items"
_STANZAS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
_FIELDS: Final = 100
"""Of a form, at most."""


class Jid(NamedTuple):
    """Who a stanza is from."""

    bare: str
    """Lower case."""
    resource: str

    @classmethod
    def of(cls, text: str) -> Jid:
        """As a server writes it."""
        bare, _, resource = text.partition("/")
        return cls(bare.lower(), resource)

    @property
    def server(self) -> str:
        """Its domain."""
        return self.bare.rpartition("@")[2]


class Refusal(NamedTuple):
    """A stanza error."""

    type: str
    """``wait``: the same may work later; a server keeps its subscription. Any other: it lets go of it at once."""
    condition: str
    text: str


class Publish(NamedTuple):
    """A push that is asked for (XEP-0357 7)."""

    node: str
    summary: Mapping[str, str] | None
    """The form's fields; None: the notification is empty."""
    options: Mapping[str, str]
    """What the user's client gave its server for us."""


class Note(NamedTuple):
    """A message of mod_push_offline, as far as it is used."""

    sender: str
    body: str


def fields_of(form: Element | None) -> dict[str, str]:
    """The first value of every field of a form (XEP-0004)."""
    found: dict[str, str] = {}
    for field in () if form is None else form.iterfind(f"{DATA}field"):
        name = field.get("var")
        if name and len(found) < _FIELDS:
            found.setdefault(name, field.findtext(f"{DATA}value") or "")
    return found


def read_publish(iq: Element) -> Publish | None:
    """The push that *iq* asks for; None: it is something else."""
    publish = iq.find(f"{PUBSUB}pubsub/{PUBSUB}publish")
    notification = None if publish is None else publish.find(f"{PUBSUB}item/{PUSH}notification")
    if publish is None or notification is None:
        return None
    form = notification.find(f"{DATA}x")
    options = fields_of(iq.find(f"{PUBSUB}pubsub/{PUBSUB}publish-options/{DATA}x"))
    return Publish(publish.get("node", ""), None if form is None else fields_of(form), options)


def read_note(message: Element) -> Note | None:
    """What mod_push_offline tells; None: *message* is none of its."""
    items = message.find(f"{EVENT}event/{EVENT}items")
    if items is None or items.get("node") != OFFLINE_NODE:
        return None
    for inner in items.iterfind(f"{EVENT}item/*"):
        space, _, name = inner.tag.rpartition("}")
        if name == "message":
            return Note(Jid.of(inner.get("from", "")).bare, inner.findtext(f"{space}}}body") or "")
    return None


def result(iq: Element, payload: str = "") -> str:
    """The answer that *iq* was carried out."""
    return f"<iq{_back(iq)} type='result'>{payload}</iq>" if payload else f"<iq{_back(iq)} type='result'/>"


def error(iq: Element, refusal: Refusal) -> str:
    """The answer that it was not."""
    text = f"<text xmlns='{_STANZAS}' xml:lang='en'>{escape(refusal.text)}</text>"
    condition = f"<{refusal.condition} xmlns='{_STANZAS}'/>"
    return f"<iq{_back(iq)} type='error'><error type='{refusal.type}'>{condition}{text}</error></iq>"


def is_ping(iq: Element) -> bool:
    """XEP-0199."""
    return iq.find("{urn:xmpp:ping}ping") is not None


def disco(iq: Element, commands: Mapping[str, str]) -> str | None:
    """What is said of us (XEP-0030), who has *commands* by node; None: that is not what is asked."""
    info, items = iq.find(f"{{{_DISCO_INFO}}}query"), iq.find(f"{{{_DISCO_ITEMS}}}query")
    if info is not None:
        node = info.get("node", "")
        if node in commands:
            category, of, name = "automation", "command-node", commands[node]
            features = [COMMANDS, "jabber:x:data"]
        elif node == COMMANDS:
            category, of, name, features = "automation", "command-list", "commands", [COMMANDS]
        else:
            # XEP-0357 4.
            category, of, name = "pubsub", "push", "mcmt"
            features = ["urn:xmpp:push:0", _DISCO_INFO, _DISCO_ITEMS, COMMANDS, "urn:xmpp:ping"]
        inner = f"<identity category='{category}' type='{of}' name={quoteattr(name)}/>"
        inner += "".join(f"<feature var='{feature}'/>" for feature in features)
        return _query(iq, _DISCO_INFO, node, inner)
    if items is not None:
        node, here = items.get("node", ""), quoteattr(iq.get("to", ""))
        listed = commands.items() if node == COMMANDS else ()
        inner = "".join(f"<item jid={here} node={quoteattr(one)} name={quoteattr(name)}/>" for one, name in listed)
        return _query(iq, _DISCO_ITEMS, node, inner)
    return None


def _query(iq: Element, space: str, node: str, inner: str) -> str:
    of_node = f" node={quoteattr(node)}" if node else ""
    return result(iq, f"<query xmlns='{space}'{of_node}>{inner}</query>")


def _back(iq: Element) -> str:
    # Every stanza of a component is from its own domain, or the server ends the stream.
    to, here, its = (quoteattr(iq.get(name, "")) for name in ("from", "to", "id"))
    return f" to={to} from={here} id={its}"
