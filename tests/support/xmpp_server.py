"""An XMPP server's side of XEP-0114, made by hand: it says what it is told to, and keeps the answers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

JID = "push.example.com"
SECRET = "s3cret"
SERVER = "example.com"
_STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"


class Said(NamedTuple):
    """An answer."""

    type: str
    error: str = ""
    """The error's type."""
    condition: str = ""
    xml: str = ""


def form(kind: str, fields: dict[str, str]) -> str:
    """A form as servers send it."""
    inner = f"<field var='FORM_TYPE'><value>{kind}</value></field>"
    inner += "".join(f"<field var='{var}'><value>{escape(value)}</value></field>" for var, value in fields.items())
    return f"<x xmlns='jabber:x:data' type='submit'>{inner}</x>"


def publish(
    node: str, summary: dict[str, str] | None = None, options: dict[str, str] | None = None, sender: str = SERVER
) -> str:
    """A push; without a *summary* an empty notification. ``{id}`` stands for its id."""
    shown = "" if summary is None else form("urn:xmpp:push:summary", summary)
    given = "" if options is None else form("http://jabber.org/protocol/pubsub#publish-options", options)
    return (
        f"<iq type='set' to='{JID}' from={quoteattr(sender)} id='{{id}}'>"
        f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node={quoteattr(node)}><item>"
        f"<notification xmlns='urn:xmpp:push:0'>{shown}</notification></item></publish>"
        f"{f'<publish-options>{given}</publish-options>' if given else ''}</pubsub></iq>"
    )


def note(body: str, owner: str = "carol@example.com", sender: str = "alice@example.com/res") -> str:
    """What mod_push_offline sends."""
    inner = f"<body>{escape(body)}</body>" if body else ""
    return (
        f"<message to='{JID}' from={quoteattr(owner)} id='1272'><event xmlns='http://jabber.org/protocol/pubsub#event'>"
        f"<items node='urn:xmpp:push:nodes:messages'><item id='1272'><message xmlns='jabber:client' "
        f"from={quoteattr(sender)} to={quoteattr(owner)} type='chat' id='x' xml:lang='en'>"
        f"<delay xmlns='urn:xmpp:delay' stamp='2026-11-22T00:00:00Z'/>{inner}</message></item>"
        f"</items></event></message>"
    )


class XmppServer:
    """One that one component connects to, again and again."""

    def __init__(self, secret: str = SECRET) -> None:
        self.secret = secret
        self.port = 0
        self.connections = 0
        """Handshakes that were right."""
        self.refused = 0
        self.attached = asyncio.Event()
        self.lost = asyncio.Event()
        self.answers: dict[str, Said] = {}
        self._told = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._number = 0

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._writer is not None:
            self._writer.transport.abort()
        await asyncio.sleep(0)

    def say(self, text: str) -> None:
        """Whatever it is."""
        assert self._writer is not None
        self._writer.write(text.encode())

    def send(self, stanza: str) -> str:
        """A stanza under an id that is new; the id."""
        self._number += 1
        name = f"rr-{self._number}-+/='&<é"
        self.say(stanza.replace("'{id}'", quoteattr(name)))
        return name

    async def drained(self) -> None:
        assert self._writer is not None
        await self._writer.drain()

    async def ask(self, stanza: str, within: float = 20.0) -> Said:
        """What is answered."""
        name = self.send(stanza)
        await self.until(lambda: name in self.answers, within)
        return self.answers[name]

    async def until(self, condition: Callable[[], bool], within: float = 20.0) -> None:
        """Return when *condition* holds, which an answer makes true."""
        async with asyncio.timeout(within), self._told:
            await self._told.wait_for(condition)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser: Any = ET.XMLPullParser(("start", "end"))
        depth = 0
        self.lost.clear()
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                for event, element in parser.read_events():
                    if event == "start":
                        depth += 1
                        if depth == 1:
                            assert element.get("to") == JID
                            writer.write(
                                b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
                                b"xmlns:stream='http://etherx.jabber.org/streams' id='stream-7' from='push'>"
                            )
                        continue
                    depth -= 1
                    if depth == 1:
                        await self._take(element, writer)
                        element.clear()
                    elif depth == 0:
                        return
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
            if self._writer is writer:
                self._writer = None
                self.attached.clear()
            self.lost.set()

    async def _take(self, element: ET.Element, writer: asyncio.StreamWriter) -> None:
        name = element.tag.rpartition("}")[2]
        if name == "handshake":
            if element.text != hashlib.sha1(f"stream-7{self.secret}".encode()).hexdigest():
                self.refused += 1
                writer.write(
                    b"<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
                    b"</stream:stream>"
                )
                return
            writer.write(b"<handshake/>")
            self._writer = writer
            self.connections += 1
            self.attached.set()
            return
        assert element.get("from", "").endswith(JID), "a real server would end the stream"
        problem = element.find("{jabber:component:accept}error")
        said = Said(element.get("type", ""), xml=ET.tostring(element, "unicode"))
        if problem is not None:
            condition = problem[0].tag.removeprefix(_STANZAS)
            said = said._replace(error=problem.get("type", ""), condition=condition)
        async with self._told:
            assert element.get("id") not in self.answers, "answered twice"
            self.answers[element.get("id", "")] = said
            self._told.notify_all()


@contextlib.asynccontextmanager
async def xmpp_server(secret: str = SECRET) -> AsyncIterator[XmppServer]:
    server = XmppServer(secret)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
