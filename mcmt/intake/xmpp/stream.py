"""A component's stream: slixmpp speaks XML and the handshake, and nothing else of it is used.

Rules: a DTD ends the connection before it is read: XMPP has none (RFC 6120 11.1), and entities grow. So do a stanza
that is too large and answers that the server does not read. No stanza reaches slixmpp's own handlers: they would answer
in its words, and keep a roster of whoever sends a presence.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final
from xml.etree.ElementTree import Element

from slixmpp.componentxmpp import ComponentXMPP
from slixmpp.xmlstream.stanzabase import StanzaBase
from slixmpp.xmlstream.tostring import tostring

from mcmt.config.xmpp_settings import XmppSettings

log = logging.getLogger(__name__)

_KEEPALIVE: Final = 30
"""Seconds between two blanks, by which a server and every box on the way see that somebody is there."""
_DEAD: Final = 60_000
"""Milliseconds that a server may leave octets unacknowledged."""
_UNREAD: Final = 1024**2
"""Octets of answers that a server may leave unread."""
_HEAD: Final = 4096
"""Octets of the stream's own first tag."""
_ERROR: Final = "{http://etherx.jabber.org/streams}error"
_OURS: Final = frozenset({"iq", "message", "presence"})


class ComponentStream(ComponentXMPP):
    """One connection, from the first octet to the last."""

    def __init__(
        self,
        settings: XmppSettings,
        accepted: Callable[[], None],
        take: Callable[[Element], None],
        lost: Callable[[str], None],
    ) -> None:
        """*accepted*: called when the server has. *take*: with every stanza from then on. *lost*: once, at the end,
        with the reason."""
        # What it finds worth a line has a line of ours; what came is in some of its own.
        logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
        super().__init__(settings.jid, settings.secret, settings.host, settings.port)  # type: ignore[no-untyped-call]  # slixmpp has not typed it
        self.whitespace_keepalive_interval = _KEEPALIVE
        self._settings = settings
        self._take = take
        self._lost = lost
        self._head = b""
        self._begun = False
        self._octets = 0
        self._reason = ""
        self._over = False
        self.add_filter("in", self._sort)
        self.add_event_handler("session_start", lambda _: accepted())

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any, send_event: bool = True) -> None:
        """See ComponentXMPP."""
        wire = transport.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD)
        super().connection_made(transport, send_event)

    def data_received(self, data: bytes | str) -> None:
        """Octets of the stream."""
        if self._over or isinstance(data, str):
            return
        if not self._begun:
            # The only place where XML has a DTD is before the first tag; NUL: an encoding in which it would look other.
            self._head += data
            if b"<!" in self._head or b"\0" in self._head or len(self._head) > _HEAD + len(data):
                self.end("it did not begin with a stream's first tag")
                return
        self._octets += len(data)
        super().data_received(data)
        if self._octets > self._settings.max_stanza_size + len(data) and not self._over:
            self.end("it sent a stanza past max_stanza_size")

    def connection_lost(self, exception: BaseException | None) -> None:
        """It is over, whoever ended it."""
        self._over = True
        super().connection_lost(exception)
        self._lost(self._reason or (str(exception) if exception else "it closed the connection"))

    # -- ComponentXMPP ------------------------------------------------------------------------------------------------

    def start_stream_handler(self, xml: Element) -> None:
        """The first tag has come."""
        self._begun, self._head = True, b""
        super().start_stream_handler(xml)  # type: ignore[no-untyped-call]  # as well

    def send(self, data: Any, use_filters: bool = True) -> None:  # noqa: ARG002 - slixmpp's
        """Now: slixmpp would put it into a queue for a task of its own."""
        self.say(
            data if isinstance(data, str) else tostring(data.xml, xmlns=self.default_ns, stream=self, top_level=True)
        )

    def disconnect(self, *_: Any, **__: Any) -> asyncio.Future[None]:
        """What slixmpp does when XML is broken."""
        self.end(self._reason or "what it sent is not XML")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def exception(self, exception: Exception) -> None:
        """What escaped a handler."""
        log.error("%s: a fault of ours", self._settings.jid, exc_info=exception)

    # -- for the component --------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Send a stanza, unless the connection has ended."""
        if self.transport is None or self._over or self.transport.is_closing():
            return
        self.transport.write(text.encode("utf-8", "replace"))
        if self.transport.get_write_buffer_size() > _UNREAD:
            self.end("it does not read what it is answered")

    def end(self, reason: str) -> None:
        """End the connection at once."""
        self._reason = self._reason or reason
        self._over = True
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """End the stream as it should (RFC 6120 4.4); what was said is sent."""
        self.say(self.stream_footer)
        if self.transport is not None:
            self.transport.close()

    def _sort(self, stanza: StanzaBase) -> StanzaBase | None:
        self._octets = 0
        xml: Element = stanza.xml
        if xml.tag == _ERROR:
            told = [each.text if each.tag.endswith("}text") else each.tag.rpartition("}")[2] for each in xml]
            self._reason = f"it said {': '.join(filter(None, told))[:200]}"
        if xml.tag.rpartition("}")[2] not in _OURS:
            return stanza
        if self.sessionstarted:
            self._take(xml)
        return None
