"""The SMTP door: the commands of a session (RFC 5321; RFC 1870 SIZE, 2034, 2920, 3030 CHUNKING, 6152, 6531;
extensions.py).

Rules: who may not relay is told so at MAIL, not at connect, since AUTH may make it one who may; nothing that a client
sends reaches a reply but as one line. The message itself is received in receiving.py.

It must not know what a message looks like, nor where it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from types import MappingProxyType
from typing import Any, Final

from aiosmtpd.smtp import SMTP, syntax

from mcmt.errors import MessageError
from mcmt.intake import extensions
from mcmt.intake.asked_for import AskedFor
from mcmt.intake.forwarded import ForwardedSession
from mcmt.intake.memory import no_room
from mcmt.intake.path import read_parameters, read_path
from mcmt.intake.receiving import ReceivingSession
from mcmt.intake.reply import reply
from mcmt.intake.security import SecureSession
from mcmt.intake.session import Command
from mcmt.intake.xclient import ANNOUNCED

_SENDER_OK: Final = b"250 2.1.0 sender ok\r\n"
_RECIPIENT_OK: Final = b"250 2.1.5 recipient ok\r\n"
_RESET_OK: Final = b"250 2.0.0 ok\r\n"
_GOODBYE: Final = b"221 2.0.0 goodbye\r\n"
_CANNOT_VERIFY: Final = b"252 2.5.0 cannot verify addresses; send the message\r\n"
_EXTENSIONS: Final = ("PIPELINING", "8BITMIME", "CHUNKING", "SMTPUTF8", "ENHANCEDSTATUSCODES", "HELP")
_BODY: Final = frozenset({"7BIT", "8BITMIME"})


def tell_extensions(hostname: str, max_message_size: int, *more: str) -> bytes:
    """The answer to EHLO, with the extensions *more*."""
    lines = [hostname, f"SIZE {max_message_size}", *_EXTENSIONS, *more]
    return "".join([f"250-{line}\r\n" for line in lines[:-1]] + [f"250 {lines[-1]}\r\n"]).encode()


def introducing(extensions: bytes) -> bytes:
    """The answer to EHLO *extensions* for who may speak for others."""
    first, rest = extensions.split(b"\r\n", 1)
    return b"%s\r\n250-%s\r\n%s" % (first, ANNOUNCED.encode(), rest)


def _at_once(command: Callable[[Any, Any], Coroutine[Any, Any, None]]) -> Command:
    """A command of aiosmtpd's that waits for nothing, as a function that is done when it returns."""

    @wraps(command)
    def run(session: SmtpSession, argument: str | None) -> None:
        with suppress(StopIteration):
            command(session, argument).send(None)

    return run


class SmtpSession(ReceivingSession, ForwardedSession):
    """One client's session. Made by the event loop's server, one a connection."""

    def _greet(self, argument: str | None, verb: str, *, extended: bool) -> None:
        if not argument:
            raise MessageError(501, "5.5.4", f"Syntax: {verb} hostname")
        self._reset()
        self._helo, self._extended = argument, extended
        if self.session is not None:
            # aiosmtpd's own commands look there.
            self.session.host_name, self.session.extended_smtp = argument, extended

    @syntax("HELO hostname")
    def helo(self, argument: str | None) -> None:
        """RFC 5321 4.1.1.1."""
        self._greet(argument, "HELO", extended=False)
        self._replies.append(f"250 {self.hostname}\r\n".encode())

    @syntax("EHLO hostname")
    def ehlo(self, argument: str | None) -> None:
        """RFC 5321 4.1.1.1. aiosmtpd's own offers AUTH, and with every EHLO of any client allows longer commands."""
        self._greet(argument, "EHLO", extended=True)
        door = self._door
        told = door.extensions_in_tls if self._secure else door.extensions
        if extensions.UNTIL in told:
            limit = extensions.future_limit(door.clock.time(), door.listen.max_future_release)
            told = told.replace(extensions.UNTIL, limit)
        self._replies.append(introducing(told) if self._may_introduce else told)

    @syntax("MAIL FROM:<address>", extended=" [SIZE=n] [BODY=7BIT|8BITMIME] [SMTPUTF8] [...]")
    def mail(self, argument: str | None) -> None:
        """RFC 5321 4.1.1.2."""
        if not self._helo:
            raise MessageError(503, "5.5.1", "send EHLO first")
        if self._sender is not None:
            raise MessageError(503, "5.5.1", "a sender is given already; RSET begins anew")
        if self._chunks is not None:
            self._end_data()
        address, parameters = read_path(argument or "", "FROM")
        self._sender = address
        try:
            if parameters:
                self._read_mail_parameters(parameters)
            if not address.isascii():
                self._require_utf8()
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
        listen = self._door.listen
        if parameters:
            asked, now = listen.discard_ehlo_keywords, self._door.clock.time()
            self._asked_for = AskedFor(extensions.read_mail(parameters, asked, listen.max_future_release, now))
        if parameters:
            raise MessageError(555, "5.5.4", f"MAIL parameter {next(iter(parameters))} is not known here")
        limit = listen.max_message_size
        if int(size) > limit:
            text = f"a message of {size} octets is larger than {limit} (max_message_size)"
            raise MessageError(552, "5.3.4", text)
        # RFC 1870 6.1: 452 where there is no room for a message of that size now.
        if not self._door.memory.fits(int(size)):
            raise no_room()

    def _require_utf8(self) -> None:
        # RFC 6531 3.5: X.6.7 where the address needs SMTPUTF8 and the transaction did not ask for it.
        if not self._utf8:
            raise MessageError(553, "5.6.7", "an address that is not ASCII needs SMTPUTF8 at MAIL")

    @syntax("RCPT TO:<address>")
    def rcpt(self, argument: str | None) -> None:
        """RFC 5321 4.1.1.3."""
        if self._sender is None:
            raise MessageError(503, "5.5.1", "send MAIL first")
        if self._chunks is not None:
            raise MessageError(503, "5.5.1", "no recipients after BDAT; RSET begins anew")
        address, parameters = read_path(argument or "", "TO")
        requests = self._read_rcpt_parameters(parameters) if parameters else None
        most = self._door.listen.max_recipients_per_message
        if len(self._recipients) >= most:
            # RFC 5321 4.5.3.1.10: the client sends the rest in another transaction, so nothing was refused.
            text = f"{most} recipients are enough (max_recipients_per_message); send the rest in another transaction"
            self._replies.append(reply(452, "4.5.3", text))
            return
        if "@" not in address:
            address = f"{address}@{self.hostname}"
        try:
            if not address.isascii():
                self._require_utf8()
            self._door.reception.stanza_of(address)
        except MessageError as reason:
            self._refuse("RCPT", reason, address)
        else:
            self._recipients.append(address)
            if requests is not None:
                self._asked_for = self._asked_for or AskedFor()
                self._asked_for.add(address, requests)
            self._replies.append(_RECIPIENT_OK)

    def _read_rcpt_parameters(self, text: str) -> extensions.RcptRequests:
        if not self._extended:
            raise MessageError(555, "5.5.4", "parameters need EHLO")
        parameters = read_parameters(text)
        if not text.isascii():
            self._require_utf8()
        requests = extensions.read_rcpt(parameters, self._door.listen.discard_ehlo_keywords)
        if parameters:
            raise MessageError(555, "5.5.4", f"RCPT parameter {next(iter(parameters))} is not known here")
        return requests

    @syntax("RSET")
    def rset(self, argument: str | None) -> None:
        """RFC 5321 4.1.1.5."""
        if argument:
            raise MessageError(501, "5.5.4", "RSET takes no argument")
        self._reset()
        self._replies.append(_RESET_OK)
        if self._draining:
            self._say_draining()

    @syntax("VRFY address")
    def vrfy(self, argument: str | None) -> None:
        """RFC 5321 3.5.3: 252 where the address is not looked up."""
        if not argument:
            raise MessageError(501, "5.5.4", "Syntax: VRFY address")
        self._replies.append(_CANNOT_VERIFY)

    @syntax("QUIT")
    def bye(self, argument: str | None) -> None:
        """RFC 5321 4.1.1.10. aiosmtpd's own cancels the session."""
        if argument:
            raise MessageError(501, "5.5.4", "QUIT takes no argument")
        self._replies.append(_GOODBYE)
        self._ending = True
        self._parted = not self._input

    COMMANDS = MappingProxyType(
        {
            "EHLO": ehlo,
            "HELO": helo,
            "XCLIENT": ForwardedSession.xclient,
            "STARTTLS": SecureSession.starttls,
            "AUTH": SecureSession.auth,
            "MAIL": mail,
            "RCPT": rcpt,
            "DATA": ReceivingSession.data,
            "BDAT": ReceivingSession.bdat,
            "RSET": rset,
            "NOOP": _at_once(SMTP.smtp_NOOP),
            "QUIT": bye,
            "VRFY": vrfy,
            "EXPN": _at_once(SMTP.smtp_EXPN),
            "HELP": _at_once(SMTP.smtp_HELP),
        }
    )
