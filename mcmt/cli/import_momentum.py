"""``mcmt import-momentum``: a configuration of Momentum's, made into ours."""

from __future__ import annotations

from pathlib import Path

import click

from mcmt.cli.common import printable


@click.command("import-momentum")
@click.argument("file", type=click.Path(path_type=Path))
def import_momentum(file: Path) -> None:
    """Write the Momentum configuration FILE (ecelerity.conf) as a configuration of ours, to standard output.

    What has no counterpart is listed on standard error, with file and line, and stands as comments at the head of what
    is written. Nothing is started and no certificate is opened: "mcmt check" says what is left to do.
    """
    import yaml

    from mcmt.channel.plugins import available, load
    from mcmt.config import momentum

    imported = momentum.import_momentum(file, {name: load(name) for name in available()})
    notes = [printable(str(note)) for note in imported.notes]
    click.echo(f"# Made of {printable(str(file))} by mcmt import-momentum.")
    if notes:
        click.echo("# Not carried over as it stands there:")
    for note in notes:
        click.echo(f"#   {note}")
        click.echo(note, err=True)
    click.echo(yaml.safe_dump(imported.document, sort_keys=False, allow_unicode=True, width=120), nl=False)
