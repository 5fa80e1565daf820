"""What a shell may complete in the place of an argument: names that the configuration and the engine know.

Rule: it never fails and never waits long; where nothing is known, nothing is offered.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_PATIENCE = 1.0


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
    return [CompletionItem(name) for name in sorted(names) if name.startswith(begun) and "*" not in name]
