"""One message handed to an engine by HTTP, and the answer to it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mcmt.cli.common import printable
from mcmt.cli.submission import Reply

VARIABLE = "MCMT_API_KEY"
"""Has the token, where no file is named: a command line is there for all to see."""


def submit_by_http(url: str, key_file: Path | None, sender: str, recipient: str, message: bytes) -> Reply:
    """Hand over *message*. Raises click.ClickException when there is no answer, or no token."""
    # Here and not above: a large import that only this way needs.
    from mcmt.client import Client, RefusedError, UnavailableError

    try:
        token = key_file.read_text().strip() if key_file else os.environ.get(VARIABLE, "")
    except OSError as error:
        raise click.ClickException(f"{key_file} cannot be read: {error.strerror}") from None
    if not token:
        raise click.ClickException(f"no token: give --api-key-file FILE or ${VARIABLE}; mcmt apikey makes one")
    try:
        with Client(url, token) as client:
            sent = client.send_raw(message, [recipient], sender=sender)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except RefusedError as error:
        return Reply("message", printable(str(error)))
    except UnavailableError as error:
        raise click.ClickException(printable(f"{url}: {error}")) from None
    return Reply("message", f"202 {sent.id} queued")
