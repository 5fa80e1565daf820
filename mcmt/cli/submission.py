"""One message handed to an SMTP listener, and the reply to it (RFC 5321)."""

from __future__ import annotations

import re
import smtplib
from typing import NamedTuple

import click

from mcmt.cli.common import address, printable

_TIMEOUT = 60.0
_QUEUED = re.compile(r"(?:250 2\.0\.0|202) ([0-9a-f]{24}) queued")


class Reply(NamedTuple):
    """What the listener said last."""

    command: str
    """To what: MAIL FROM, RCPT TO or the message."""
    text: str
    """Code and text, one line; of HTTP too."""

    @property
    def accepted(self) -> bool:
        """The listener answers for the message from now on."""
        return self.command == "message" and self.text.startswith(("250", "202"))

    @property
    def batch_id(self) -> str:
        """Under which the message stands in the logs; empty if the listener is not mcmt's."""
        match = _QUEUED.match(self.text)
        return match[1] if match else ""


def submit(host: str, port: int, sender: str, recipient: str, message: bytes) -> Reply:
    """Hand over *message*. Raises click.ClickException when there is no listener, or it hangs up."""
    where = address(host, port)
    try:
        with smtplib.SMTP(host, port, timeout=_TIMEOUT) as smtp:
            smtp.ehlo_or_helo_if_needed()
            extensions = [] if (sender + recipient).isascii() else ["SMTPUTF8", "BODY=8BITMIME"]
            if extensions:
                smtp.command_encoding = "utf-8"
            reply = _reply("MAIL FROM", smtp.mail(sender, extensions))
            if reply.text.startswith("250"):
                reply = _reply("RCPT TO", smtp.rcpt(recipient))
            if reply.text.startswith("25"):
                reply = _reply("message", smtp.data(message))
            return reply
    except ConnectionRefusedError:
        raise click.ClickException(
            f"{where}: nothing listens there: start mcmt serve, or name another --smtp"
        ) from None
    except smtplib.SMTPDataError as error:
        return _reply("message", (error.smtp_code, error.smtp_error))
    except (OSError, smtplib.SMTPException) as error:
        raise click.ClickException(f"{where}: the SMTP session failed: {error}") from None


def _reply(command: str, answer: tuple[int, bytes | str]) -> Reply:
    code, text = answer
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    return Reply(command, printable(f"{code} {' '.join(shown.split())}"))
