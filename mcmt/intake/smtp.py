"""The SMTP door: the commands of a session (RFC 5321; RFC 1870 SIZE, 2034, 2920, 6152, 6531).

Rules: 250 after the message only when Reception.receive returned; who may not relay is told so at MAIL, not at
connect, since AUTH may make it one who may; nothing that a client sends reaches a reply but as one line.

It must not know what a message looks like, nor where it is kept.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from aiosmtpd.smtp import syntax

from mcmt.errors import MessageError, SpoolError, SpoolFull
from mcmt.intake.data import BareLineEndError, DataReader
from mcmt.intake.memory import no_room
from mcmt.intake.path import read_parameters, read_path
from mcmt.intake.reply import reply
from mcmt.intake.security import SecureSession

_SENDER_OK: Final = b"250 2.1.0 sender ok\r\n"
_RECIPIENT_OK: Final = b"250 2.1.5 recipient ok\r\n"
_RESET_OK: Final = b"250 2.0.0 ok\r\n"
_START_DATA: Final = b"354 end the message with <CR><LF>.<CR><LF>\r\n"
_GOODBYE: Final = b"221 2.0.0 goodbye\r\n"
_CANNOT_VERIFY: Final = b"252 2.5.0 cannot verify addresses; send the message\r\n"
_EXTENSIONS: Final = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "HELP")
_VERBS: Final = (
    *("EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP"),
)
_BODY: Final = frozenset({"7BIT", "8BITMIME"})


def tell_extensions(hostname: str, max_message_size: int, more: str | None) -> bytes:
    """The answer to EHLO, with the extension *more*."""
    lines = [hostname, f"SIZE {max_message_size}", *_EXTENSIONS, *([more] if more else [])]
    return "".join([f"250-{line}\r\n" for line in lines[:-1]] + [f"250 {lines[-1]}\r\n"]).encode()


class SmtpSession(SecureSession):
    """One client's session. Made by the event loop's server, one a connection."""

    COMMANDS = MappingProxyType({verb: f"smtp_{verb}" for verb in _VERBS})

    _utf8 = False
    """SMTPUTF8 was asked for at MAIL."""

    def _forget(self) -> None:
        super()._forget()
        self._utf8 = False

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []
        self._utf8 = False

    def _greet(self, argument: str | None, verb: str, *, extended: bool) -> None:
        if not argument:
            raise MessageError(501, "5.5.4", f"Syntax: {verb} hostname")
        self._reset()
        self._helo, self._extended = argument, extended
        if self.session is not None:
            # aiosmtpd's own commands look there.
            self.session.host_name, self.session.extended_smtp = argument, extended

    @syntax("HELO hostname")
    async def smtp_HELO(self, argument: str | None) -> None:  # noqa: N802 - the command
        """RFC 5321 4.1.1.1."""
        self._greet(argument, "HELO", extended=False)
        self._replies.append(f"250 {self.hostname}\r\n".encode())

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, argument: str | None) -> None:  # noqa: N802 - the command
        """RFC 5321 4.1.1.1. aiosmtpd's own offers AUTH, and with every EHLO of any client allows longer commands."""
        self._greet(argument, "EHLO", extended=True)
        door = self._door
        self._replies.append(door.extensions_in_tls if self._secure else door.extensions)

    @syntax("MAIL FROM:<address>", extended=" [SIZE=n] [BODY=7BIT|8BITMIME] [SMTPUTF8]")
    async def smtp_MAIL(self, argument: str | None) -> None:  # noqa: N802 - the command
        """RFC 5321 4.1.1.2."""
        if not self._helo:
            raise MessageError(503, "5.5.1", "send EHLO first")
        if self._sender is not None:
            raise MessageError(503, "5.5.1", "a sender is given already; RSET begins anew")
        address, parameters = read_path(argument or "", "FROM", self._getaddr)
        self._sender = address
        try:
            if parameters:
                self._read_mail_parameters(parameters)
            self._require_utf8(address)
            if not self._relays and not self._user:
                raise self._stranger()
        except MessageError as reason:
            self._refuse("MAIL", reason)
            self._reset()
        else:
            self._replies.append(_SENDER_OK)

    def _stranger(self) -> MessageError:
        if self._door.logins is None:
            return MessageError(550, "5.7.1", f"{self._peer} may not submit here (relay_hosts does not name it)")
        # RFC 4954 6: 530 5.7.0, authentication required.
        way = "AUTH" if self._secure else "STARTTLS and AUTH"
        return MessageError(530, "5.7.0", f"log in first ({way}), or have relay_hosts name {self._peer}")

    def _read_mail_parameters(self, text: str) -> None:
        if not self._extended:
            raise MessageError(555, "5.5.4", "parameters need EHLO")
        parameters = read_parameters(text)
        self._utf8 = "SMTPUTF8" in parameters
        size, body = parameters.pop("SIZE", "0"), parameters.pop("BODY", "7BIT").upper()
        # RFC 1870 3: size-value is 1 to 20 digits. RFC 6531 3.4: SMTPUTF8 has no value.
        if not (size.isascii() and size.isdigit() and len(size) <= 20) or parameters.pop("SMTPUTF8", ""):
            raise MessageError(501, "5.5.4", "SIZE takes a number, SMTPUTF8 no value")
        # RFC 6152 2: BODY=7BIT or 8BITMIME; BINARYMIME (RFC 3030) is not offered.
        if body not in _BODY:
            raise MessageError(501, "5.5.4", "BODY takes 7BIT or 8BITMIME")
        if parameters:
            raise MessageError(555, "5.5.4", f"MAIL parameter {next(iter(parameters))} is not known here")
        limit = self._door.listen.max_message_size
        if int(size) > limit:
            text = f"a message of {size} octets is larger than {limit} (max_message_size)"
            raise MessageError(552, "5.3.4", text)
        # RFC 1870 6.1: 452 where there is no room for a message of that size now.
        if not self._door.memory.fits(int(size)):
            raise no_room()

    def _require_utf8(self, address: str) -> None:
        # RFC 6531 3.5: X.6.7 where the address needs SMTPUTF8 and the transaction did not ask for it.
        if not address.isascii() and not self._utf8:
            raise MessageError(553, "5.6.7", "an address that is not ASCII needs SMTPUTF8 at MAIL")

    @syntax("RCPT TO:<address>")
    async def smtp_RCPT(self, argument: str | None) -> None:  # noqa: N802 - the command
        """RFC 5321 4.1.1.3."""
        if self._sender is None:
            raise MessageError(503, "5.5.1", "send MAIL first")
        address, parameters = read_path(argument or "", "TO", self._getaddr)
        if parameters:
            raise MessageError(555, "5.5.4", "RCPT takes no parameters here")
        most = self._door.listen.max_recipients_per_message
        if len(self._recipients) >= most:
            # RFC 5321 4.5.3.1.10: the client sends the rest in another transaction, so nothing was refused.
            text = f"{most} recipients are enough (max_recipients_per_message); send the rest in another transaction"
            self._replies.append(reply(452, "4.5.3", text))
            return
        if "@" not in address:
            address = f"{address}@{self.hostname}"
        try:
            self._require_utf8(address)
            self._door.reception.stanza_of(address)
        except MessageError as reason:
            self._refuse("RCPT", reason, address)
        else:
            self._recipients.append(address)
            self._replies.append(_RECIPIENT_OK)

    @syntax("DATA")
    async def smtp_DATA(self, argument: str | None) -> None:  # noqa: N802 - the command
        """RFC 5321 4.1.1.4."""
        if argument:
            raise MessageError(501, "5.5.4", "DATA takes no argument")
        if self._sender is None:
            raise MessageError(503, "5.5.1", "send MAIL first")
        if not self._recipients:
            # RFC 5321 3.3: 503 or 554 where no recipient was taken. Not recorded: each of them was, at RCPT.
            raise MessageError(503, "5.5.1", "no recipient was accepted")
        self._in_data = True
        try:
            if not self._door.memory.fits(1):
                raise no_room()
            self._replies.append(_START_DATA)
            await self._flush()
            await self._receive()
        except MessageError as reason:
            self._ending = isinstance(reason, BareLineEndError)
            self._refuse("DATA", reason)
        except SpoolFull as error:
            self._door.reception.tell_not_kept(self._connection_id, self._peer, error)
            # RFC 5321 4.2.2: 452 is insufficient system storage; the client keeps the message and comes again.
            self._refuse("DATA", MessageError(452, "4.3.1", "not enough room on the disk here; try again later"))
        except SpoolError as error:
            self._door.reception.tell_not_kept(self._connection_id, self._peer, error)
            text = "the spool cannot keep the message now; nothing was kept, try again later"
            self._refuse("DATA", MessageError(451, "4.3.0", text))
        finally:
            self._in_data = self._awaited = False
            self._content_since = None
            self._reset()
        if self._draining:
            self._say_draining()

    async def _receive(self) -> None:
        listen, memory = self._door.listen, self._door.memory
        reader = DataReader(listen.max_message_size)
        held = 0
        try:
            ended = False
            while not ended:
                ended = reader.feed(self._input)
                if not memory.take(reader.held - held):
                    reader.refuse(no_room())
                    memory.take(reader.held - held)
                held = reader.held
                if not ended and not await self._fill():
                    # RFC 5321 4.1.1.4: without the end of the message there is none.
                    self._ending = True
                    return
            content = reader.content()
            self._awaited = True
            envelope = self._envelope(tuple(self._recipients))
            batch_id = await self._door.reception.receive(envelope, content, listen.mcmt_reception)
        finally:
            memory.give_back(held)
        self._replies.append(f"250 2.0.0 {batch_id} queued\r\n".encode())
        self._errors = self._refusals = 0

    @syntax("RSET")
    async def smtp_RSET(self, argument: str | None) -> None:  # noqa: N802 - the command
        """RFC 5321 4.1.1.5."""
        if argument:
            raise MessageError(501, "5.5.4", "RSET takes no argument")
        self._reset()
        self._replies.append(_RESET_OK)

    @syntax("VRFY address")
    async def smtp_VRFY(self, argument: str | None) -> None:  # noqa: N802 - the command
        """RFC 5321 3.5.3: 252 where the address is not looked up."""
        if not argument:
            raise MessageError(501, "5.5.4", "Syntax: VRFY address")
        self._replies.append(_CANNOT_VERIFY)

    @syntax("QUIT")
    async def smtp_QUIT(self, argument: str | None) -> None:  # noqa: N802 - the command
        """RFC 5321 4.1.1.10. aiosmtpd's own cancels the session."""
        if argument:
            raise MessageError(501, "5.5.4", "QUIT takes no argument")
        self._replies.append(_GOODBYE)
        self._ending = True
        self._parted = not self._input
