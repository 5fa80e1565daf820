"""``mcmt passwd``: who may log in to submit mail."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mcmt.cli.common import config_option, load_places


@click.command()
@click.argument("name")
@click.option(
    "--users-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to change; made when it is missing. [default: the configuration's users_file]",
)
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from standard input, one line.")
@click.option("--delete", is_flag=True, help="Delete NAME.")
@config_option
@click.pass_context
def passwd(
    context: click.Context, name: str, users_file: Path | None, from_stdin: bool, delete: bool, config: Path | None
) -> None:
    """Add NAME to a users file, change its password, or delete it.

    The password is asked for twice. A running engine sees the change at the next login; who is logged in stays so.
    Exits with 1 when nothing was changed.
    """
    if delete and from_stdin:
        raise click.UsageError("--delete needs no password: leave --stdin out")
    from mcmt.intake.users import change_user, check_name

    try:
        check_name(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    file = users_file or _configured(config)
    if delete:
        if not change_user(file, name, None):
            click.echo(f"Error: {file} has no {name}", err=True)
            context.exit(1)
        click.echo(f"{name} deleted from {file}")
        return
    import os

    from mcmt.intake import passwords

    try:
        password = passwords.store(_ask(from_stdin), os.urandom(passwords.SALT))
    except ValueError as error:
        click.echo(f"Error: {error}; nothing was changed", err=True)
        context.exit(1)
    known = change_user(file, name, password)
    click.echo(f"password of {name} changed in {file}" if known else f"{name} added to {file}")


def _configured(config: Path | None) -> Path:
    files = {listen.users_file for listen in load_places(config).listen if listen.users_file}
    if len(files) != 1:
        said = f"names several: {', '.join(map(str, sorted(files)))}" if files else "names no users_file"
        raise click.UsageError(f"the configuration {said}; name one with --users-file FILE")
    return files.pop()


def _ask(from_stdin: bool) -> str:
    if from_stdin:
        try:
            return sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError("a password is UTF-8") from None
    if not sys.stdin.isatty():
        raise click.UsageError("standard input is no terminal; give the password on it with --stdin")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt="Once more", err=True)
    return password
