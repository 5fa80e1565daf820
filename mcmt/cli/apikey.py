"""``mcmt apikey``: a token for the HTTP API, and what the configuration has of it."""

from __future__ import annotations

import json
import os
import sys

import click

from mcmt.cli.common import json_option


@click.command()
@click.argument("name")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read a token from standard input instead of making one.")
@json_option
def apikey(name: str, from_stdin: bool, as_json: bool) -> None:
    """Make a bearer token for the HTTP API and print it, with the lines that let NAME use it.

    The token is kept nowhere: the configuration has its hash alone. It is good once the lines stand below
    http_listener.tokens and `mcmt reload` was said.

    \b
    mcmt apikey shop
    """
    from mcmt.intake.http.tokens import BYTES, hash_of, make_token

    token = sys.stdin.readline().strip() if from_stdin else make_token(os.urandom(BYTES))
    if len(token) < BYTES:
        raise click.ClickException(f"a token has at least {BYTES} characters, so that nobody guesses it")
    if as_json:
        click.echo(json.dumps({"name": name, "token": token, "hash": hash_of(token)}))
        return
    if not from_stdin:
        click.echo(f"the token of {name}, shown this once:\n\n  {token}\n")
    click.echo(f'below http_listener.tokens in the configuration:\n\n    {name}: {{hash: "{hash_of(token)}"}}')
