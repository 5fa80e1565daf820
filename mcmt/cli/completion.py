"""``mcmt completion``: what a shell needs to complete the commands of mcmt."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write what has SHELL complete commands, options and domains.

    \b
    bash:  mcmt completion bash > /etc/bash_completion.d/mcmt
    zsh:   mcmt completion zsh > "${fpath[1]}/_mcmt"
    fish:  mcmt completion fish > ~/.config/fish/completions/mcmt.fish

    It asks mcmt itself, so it needs no renewal. Domains are those of the configuration and of the running engine.
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - one of the choices
    # Not its source(): that starts bash to ask for a version that has been everywhere since 2016.
    complete = made(context.find_root().command, {}, "mcmt", "_MCMT_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())
