"""Users of a real XMPP server, on slixmpp: they register a device, enable push, write, and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Literal
from xml.etree.ElementTree import Element

from slixmpp import JID, ClientXMPP
from slixmpp.exceptions import IqError
from slixmpp.xmlstream import ET

from tests.support.ejabberd import COMPONENT, HOST

WITHIN = 30.0


class User(ClientXMPP):
    """One session of a user, whose account is made where there is none."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(f"{name}@{HOST}/phone", f"pw-{name}")
        self.enable_starttls = self.enable_direct_tls = False
        self.enable_plaintext = True
        self.plugin["feature_mechanisms"].unencrypted_scram = True
        self.register_plugin("xep_0077")
        self.plugin["xep_0077"].force_registration = True
        self._port = port
        self.add_event_handler("register", self._sign_up)

    async def _sign_up(self, _: Any) -> None:
        iq = self.Iq()
        iq["type"] = "set"
        iq["register"]["username"] = self.boundjid.user
        iq["register"]["password"] = self.password
        with contextlib.suppress(IqError):  # there already
            await iq.send(timeout=WITHIN)  # type: ignore[no-untyped-call]  # slixmpp has not typed it

    async def ask(self, to: str, payload: str, kind: Literal["get", "set"] = "set") -> Element:
        """The answer to an iq. Raises IqError."""
        iq = self.make_iq(ito=to, itype=kind)
        iq.append(ET.fromstring(payload))
        answer = await iq.send(timeout=WITHIN)  # type: ignore[no-untyped-call]  # as well
        xml: Element = answer.xml
        return xml

    async def register_device(self, command: str = "register-push-apns", **fields: str) -> dict[str, str]:
        """jid, node and secret, as an app gets them by an ad-hoc command."""
        given = "".join(
            f"<field var='{name.replace('_', '-')}'><value>{value}</value></field>" for name, value in fields.items()
        )
        answer = await self.ask(
            COMPONENT,
            f"<command xmlns='http://jabber.org/protocol/commands' node='{command}' action='execute'>"
            f"<x xmlns='jabber:x:data' type='submit'>{given}</x></command>",
        )
        found = answer.iter("{jabber:x:data}field")
        return {field.get("var", ""): field.findtext("{jabber:x:data}value") or "" for field in found}

    async def enable_push(self, jid: str, node: str, secret: str = "") -> None:
        """XEP-0357 5."""
        options = ""
        if secret:
            options = (
                "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>"
                "<value>http://jabber.org/protocol/pubsub#publish-options</value></field>"
                f"<field var='secret'><value>{secret}</value></field></x>"
            )
        await self.ask("", f"<enable xmlns='urn:xmpp:push:0' jid='{jid}' node='{node}'>{options}</enable>")

    async def write(self, name: str, body: str) -> None:
        """A message; it is at the server when this returns."""
        self.send_message(JID(f"{name}@{HOST}"), body, mtype="chat")
        await self.ask(HOST, "<ping xmlns='urn:xmpp:ping'/>", "get")


@contextlib.asynccontextmanager
async def user(name: str, port: int) -> AsyncIterator[User]:
    """Online until the end."""
    client = User(name, port)
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    client.add_event_handler("session_start", lambda _: None if ready.done() else ready.set_result(None))
    client.connect("127.0.0.1", port)
    try:
        await asyncio.wait_for(ready, WITHIN)
        client.send_presence()
        yield client
    finally:
        gone = client.disconnected
        client.disconnect()
        await asyncio.wait_for(gone, WITHIN)
