"""What a shell may complete in the place of an argument: names that the configuration and the engine know.

Rules: it never fails and never waits long; where nothing is known, nothing is offered. Domains are what clients call
them, and a shell puts a word into the line as it is: one in which a shell might find anything to do is not offered.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_PATIENCE = 1.0
_is_harmless = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*").fullmatch


def complete_domain(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:  # noqa: ARG001 - click's
    """Domains: of every stanza, and those that the running engine has something to do for."""
    from click.shell_completion import CompletionItem

    from mcmt.cli.common import connect, load_places
    from mcmt.errors import McmtError

    names: set[str] = set()
    try:
        given = context.params.get("config")
        settings = load_places(Path(given) if given else None)
        names |= settings.domains.keys()
        from mcmt.control.protocol import Domains, DomainStatus

        with connect(settings, _PATIENCE) as client:
            names |= {status.domain for status in client.ask(Domains(), DomainStatus)}
    except (McmtError, OSError):
        pass  # what is known so far is offered
    return [CompletionItem(name) for name in sorted(names) if name.startswith(begun) and _is_harmless(name)]
