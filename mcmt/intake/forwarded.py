"""A client that comes through another server, which tells whose connection it is: by the PROXY protocol's header before
anything is said (mcmt/wire/proxy.py), or by XCLIENT (xclient.py).

Rules: only who is listed is believed (``proxy_protocol``, ``authorized_xclient_hosts``), and he is believed wholly:
whom he tells of is the client from then on, for relaying, counts, logins and logs. Of a listed proxy nothing is taken,
and nothing is said to it, before its header has come whole.
"""

from __future__ import annotations

import logging

from aiosmtpd.smtp import syntax

from mcmt.errors import MessageError, ProtocolError
from mcmt.intake import limits
from mcmt.intake.door import client_of, is_listed
from mcmt.intake.reply import reply
from mcmt.intake.security import SecureSession
from mcmt.intake.session import Work
from mcmt.intake.xclient import read_attributes
from mcmt.wire.proxy import read_header

log = logging.getLogger(__name__)

_UNKNOWN = "unknown"
"""The address of a client whose address XCLIENT says is not available."""


class ForwardedSession(SecureSession):
    """A session whose client may be another than its peer."""

    _origin: str | None = None
    """Who was the client before XCLIENT told of another, if it did."""
    _told: dict[str, str]
    """What XCLIENT told, by attribute."""

    def _forget(self) -> None:
        super()._forget()
        self._told = {}

    async def _become(self, address: str) -> bool:
        """Be the session of a client at *address* from now on; False: it has been told that it is one too many."""
        client = client_of(address)
        refusal = await self._door.sessions.move(self, client)
        if refusal is not None:
            self._replies.append(reply(refusal.code, refusal.enhanced, refusal.text))
            self._ending = True
            return False
        self._peer, self._client = address, client
        self._watched_by = None  # who watches is told of another client
        return True

    # -- the PROXY protocol --------------------------------------------------------------------------------------

    def _await_header(self) -> None:
        self._timer = self._door.clock.call_later(limits.PROXY_HEADER, self._no_header)
        self._hand_over("", self._take_header())

    def _no_header(self) -> None:
        self._drop(f"it did not come within {limits.PROXY_HEADER:g} seconds")

    def _drop(self, reason: str) -> None:
        if times := self._door.headless.count():
            text = "%d connections dropped for want of a PROXY header (proxy_protocol), the last one of %s: %s"
            log.warning(text, times, self._peer, reason)
        self._ending = True
        self._wire.close()
        self._wake()

    async def _take_header(self) -> None:
        try:
            while (header := read_header(self._input)) is None:
                await self._more()
        except ProtocolError as error:
            self._drop(str(error))
            return
        del self._input[: header.length]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._door.clock.call_later(self._door.tick, self._watch)
        if await self._become(header.address or self._peer):
            self._replies.append(self._welcome())

    # -- XCLIENT -------------------------------------------------------------------------------------------------

    @property
    def _may_introduce(self) -> bool:
        """Whether XCLIENT is taken. Whom it told of may not."""
        hosts = self._door.listen.authorized_xclient_hosts
        return bool(hosts) and is_listed(self._peer if self._origin is None else self._origin, hosts)

    @syntax("XCLIENT attribute=value ...", when="_may_introduce")
    def xclient(self, argument: str | None) -> Work:
        """XCLIENT_README."""
        if not self._may_introduce:
            raise MessageError(550, "5.7.1", f"{self._origin or self._peer} may not speak for others")
        if self._sender is not None:
            raise MessageError(503, "5.5.1", "not within a transaction; RSET begins anew")
        return self._introduce(read_attributes(argument or ""))

    async def _introduce(self, attributes: dict[str, str]) -> None:
        if self._origin is None:
            self._origin = self._peer
        if "ADDR" in attributes and not await self._become(attributes["ADDR"] or _UNKNOWN):
            return
        # The session begins anew, but what was told stays: HELO, PROTO and LOGIN too, of this command and of those
        # before it, since one command may be too short for all.
        told = {**self._told, **attributes}
        self._forget()
        self._told = told
        self._helo, self._user = told.get("HELO", ""), told.get("LOGIN", "")
        self._extended = bool(self._helo) and told.get("PROTO") == "ESMTP"
        self._replies.append(self._welcome())
