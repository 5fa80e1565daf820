"""``mcmt man``: the manual pages, made of the same texts as ``--help`` and the JSON Schema."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

import mcmt
from mcmt.cli.roff import Page

_EXIT = (
    ("0", "Done."),
    ("1", "Failed: the text on standard error says why and what to do."),
    ("2", "The configuration or the command line is wrong."),
)
_FILES = (
    ("config/mcmt.yaml, /etc/mcmt/mcmt.yaml", "The configuration, where neither --config nor MCMT_CONFIG names one."),
    ("control.sock in the spool's folder", "Where commands find the running engine."),
)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="/usr/local/share/man")
@click.pass_context
def man(context: click.Context, folder: Path) -> None:
    """Write the manual pages mcmt(1) and mcmt.yaml(5) below FOLDER, /usr/local/share/man when not given.

    They are made of what --help and the JSON Schema of the configuration say, of the version that writes them.
    """
    from mcmt.cli.man_options import options_page

    date, main = time.strftime("%Y-%m-%d"), context.find_root().command
    pages = {"man1/mcmt.1": commands_page(main, date), "man5/mcmt.yaml.5": options_page(date)}
    for name, text in pages.items():
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, "ascii")
        except OSError as error:
            raise click.ClickException(f"{folder / name}: {error.strerror}: name a folder that you may write") from None
        click.echo(folder / name)


def commands_page(main: click.Command, date: str) -> str:
    """mcmt(1): every command with its options."""
    page = Page("mcmt", 1, date, mcmt.__version__, "a message delivery engine")
    page.section("Synopsis")
    page.paragraphs("mcmt COMMAND [OPTIONS] [ARGUMENTS]")
    page.section("Description")
    page.paragraphs(main.help or "")
    page.section("Commands")
    for context in _leaves(click.Context(main, info_name="mcmt")):
        command = context.command
        page.part(f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}")
        page.paragraphs(command.help or "")
        for parameter in command.params:
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None:
                page.item(*record)
    page.section("Exit status")
    page.items(_EXIT)
    page.section("Environment")
    page.item("MCMT_CONFIG", "The configuration, where --config names none.")
    page.section("Files")
    page.items(_FILES)
    page.section("See also")
    page.paragraphs("mcmt.yaml(5)")
    return page.text()


def _leaves(context: click.Context) -> Iterator[click.Context]:
    """The commands that are no groups, hidden ones left out."""
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for name in sorted(command.list_commands(context)):
        member = command.get_command(context, name)
        if member is not None and not member.hidden:
            yield from _leaves(click.Context(member, parent=context, info_name=name))
