"""The commands that make a session secure: STARTTLS (RFC 3207) and AUTH (RFC 4954; PLAIN RFC 4616, LOGIN).

Rules: nothing that came in plain text outlives STARTTLS; a password is taken over TLS only; who fails waits, each time
longer, and is sent away before he has tried much. It must not know what a login is good for (smtp.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from aiosmtpd.smtp import syntax

from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.intake.logins import Logins, LoginsBusyError
from mcmt.intake.reply import reply
from mcmt.intake.session import Session, Work
from mcmt.intake.tls import CertificateFiles

_START_TLS: Final = b"220 2.0.0 begin TLS now\r\n"
_LOGGED_IN: Final = b"235 2.7.0 logged in\r\n"
_WRONG: Final = MessageError(535, "5.7.8", "wrong name or password")
_TOO_MANY: Final = reply(421, "4.7.0", "too many failed logins in one session (auth_failures_per_session)")
_SPENT: Final = reply(
    421, "4.7.0", "too many failed logins from your address (auth_failures_per_address); try again later"
)


class SecureSession(Session):
    """A session that can become secure."""

    _extended = False
    """The client said EHLO."""
    _secure = False
    """TLS is on."""
    _failures = 0
    """Logins that failed in this session."""

    @property
    def _offers_tls(self) -> bool:
        return self._door.certificate is not None and not self._secure

    @property
    def _offers_auth(self) -> bool:
        return self._door.logins is not None and self._secure

    def _forget(self) -> None:
        super()._forget()
        self._extended = False

    # -- STARTTLS ------------------------------------------------------------------------------------------------

    @syntax("STARTTLS", when="_offers_tls")
    def starttls(self, argument: str | None) -> Work:
        """RFC 3207 4."""
        certificate = self._door.certificate
        if certificate is None:
            raise self._unknown("STARTTLS", "STARTTLS")
        if argument:
            raise MessageError(501, "5.5.4", "STARTTLS takes no argument")
        if self._secure:
            raise MessageError(503, "5.5.1", "TLS is on already")
        return self._begin_tls(certificate)

    async def _begin_tls(self, certificate: CertificateFiles) -> None:
        await self._upgrade(_START_TLS, certificate.context())
        # RFC 3207 4.2: the session is as after the greeting; the server MUST discard any knowledge obtained from the
        # client, such as the argument to EHLO.
        self._forget()
        self._secure = True
        self._tls_first = False
        if self._door.logins is not None:
            self._longest_command = limits.AUTH_LINE

    # -- AUTH ----------------------------------------------------------------------------------------------------

    @syntax("AUTH PLAIN|LOGIN [initial-response]", when="_offers_auth")
    def auth(self, argument: str | None) -> Work:
        """RFC 4954 4."""
        logins = self._door.logins
        if logins is None:
            raise self._unknown("AUTH", "AUTH")
        if not self._secure:
            # RFC 4954 6: 538 5.7.11, encryption required for the requested authentication mechanism.
            raise MessageError(538, "5.7.11", "passwords are taken over TLS only: send STARTTLS first")
        # RFC 4954 4: AUTH is for sessions that began with EHLO, once, and not within a mail transaction.
        if not self._extended:
            raise MessageError(503, "5.5.1", "send EHLO first")
        if self._user:
            raise MessageError(503, "5.5.1", "you are logged in already")
        if self._sender is not None:
            raise MessageError(503, "5.5.1", "not within a transaction; RSET begins anew")
        word, _, response = (argument or "").partition(" ")
        mechanism = _MECHANISMS.get(word.upper())
        if mechanism is None:
            raise MessageError(504, "5.5.4", f"expected AUTH {' or AUTH '.join(_MECHANISMS)}")
        return self._log_in(logins, mechanism, response.strip(" "))

    async def _log_in(self, logins: Logins, mechanism: _Mechanism, response: str) -> None:
        name, password = await mechanism(self, response)
        # Not before: many sessions could wait with their guesses ready.
        if logins.failures.is_spent(self._client):
            self._replies.append(_SPENT)
            self._ending = True
            return
        self._awaited = True
        if await self._is_right(logins, name, password):
            self._user = name
            self._replies.append(_LOGGED_IN)
        else:
            await self._fail(name)

    async def _is_right(self, logins: Logins, name: str, password: str | None) -> bool:
        logins.failures.spend(self._client)
        try:
            right = await logins.check(name, password or "") and password is not None
        except LoginsBusyError:
            logins.failures.give_back(self._client)
            # RFC 4954 6: 454 4.7.0, temporary authentication failure.
            raise MessageError(454, "4.7.0", "too many logins at once; try again later") from None
        if right:
            logins.failures.give_back(self._client)
        return right

    async def _fail(self, name: str) -> None:
        self._failures += 1
        await self._pause(limits.AUTH_DELAY * 2 ** (self._failures - 1))
        self._replies.append(reply(_WRONG.code, _WRONG.enhanced, _WRONG.text))
        told = MessageError(_WRONG.code, _WRONG.enhanced, f"{_WRONG.text}: {name[:64]!a}")
        self._door.reception.reject(self._envelope(()), "AUTH", told)
        if self._failures >= self._door.intake.auth_failures_per_session:
            self._replies.append(_TOO_MANY)
            self._ending = True

    async def _ask(self, challenge: bytes) -> bytes:
        """What the client answers to *challenge*."""
        self._replies.append(b"334 " + base64.b64encode(challenge) + b"\r\n")
        line = await self._read_line(limits.AUTH_LINE)
        if line is None:
            self._ending = True
            # RFC 4954 6: 500 5.5.6, authentication exchange line is too long.
            raise MessageError(500, "5.5.6", f"an answer has at most {limits.AUTH_LINE} octets. The session ends here")
        # RFC 4954 4: a client that wishes to cancel sends "*"; the server answers 501.
        if line == b"*":
            raise MessageError(501, "5.7.0", "login cancelled")
        return _decode(line)


def _decode(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        # RFC 4954 4: what cannot be decoded is answered with 501; 6: X.5.2.
        raise MessageError(501, "5.5.2", "that is not base64") from None


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise MessageError(501, "5.5.2", "name and password are UTF-8") from None


async def _first(session: SecureSession, response: str, challenge: bytes) -> bytes:
    """The initial response, where there is one; else what is answered to *challenge*."""
    if not response:
        return await session._ask(challenge)
    # RFC 4954 4: an initial response of no octets is sent as "=".
    return b"" if response == "=" else _decode(response.encode())


async def _plain(session: SecureSession, response: str) -> tuple[str, str | None]:
    # RFC 4616 2: message = [authzid] UTF8NUL authcid UTF8NUL passwd.
    fields = (await _first(session, response, b"")).split(b"\0")
    if len(fields) != 3:
        raise MessageError(501, "5.5.2", "PLAIN is an empty field, name and password, parted by NUL")
    acting_for, name, password = map(_text, fields)
    # Nobody may act for another.
    return name, password if acting_for in ("", name) else None


async def _login(session: SecureSession, response: str) -> tuple[str, str | None]:
    # draft-murchison-sasl-login: clients know no other challenges than these.
    name = await _first(session, response, b"Username:")
    return _text(name), _text(await session._ask(b"Password:"))


_Mechanism = Callable[[SecureSession, str], Awaitable[tuple[str, str | None]]]
_MECHANISMS: Mapping[str, _Mechanism] = MappingProxyType({"PLAIN": _plain, "LOGIN": _login})
"""How each mechanism comes to a name and a password; None: wrong whatever the password is."""
AUTH: Final = f"AUTH {' '.join(_MECHANISMS)}"
"""The extension as EHLO tells it."""
