"""``mcmt check``: whether an engine could run with a configuration."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISDIR, S_ISREG, S_ISSOCK
from typing import TYPE_CHECKING, NamedTuple

import click

from mcmt.cli.common import address, config_option, find_file, json_option
from mcmt.errors import ConfigError, Fault

if TYPE_CHECKING:
    from mcmt.config.settings import Settings


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@config_option
@click.pass_context
def check(context: click.Context, file: Path | None, as_json: bool, config: Path | None) -> None:
    """Check the configuration FILE and everything that it names.

    All faults are shown in one run, each with file, line and column. Certificates and keys are loaded, and it is said
    what they are good for. Nothing is created or changed, and an engine may be running. Exits with 2 when the engine
    could not run with it. Root checks as the user that run_as names.
    """
    if file is not None and config is not None:
        raise click.UsageError("FILE and --config name the same thing: give one of them")
    path = find_file(file or config)
    try:
        verdict = _judge(path)
    except ConfigError as error:
        if not as_json:
            raise
        verdict = Verdict((), error.faults, ())
    if as_json:
        told = {"file": str(path), "good": not verdict.faults, **verdict._asdict()}
        click.echo(json.dumps({**told, "faults": [fault._asdict() for fault in verdict.faults]}))
    else:
        for line in verdict.found:
            click.echo(line)
        for fault in verdict.faults:
            click.echo(fault, err=True)
        for warning in verdict.warnings:
            click.echo(f"warning: {warning}", err=True)
        if not verdict.faults:
            click.echo(f"{path}: good")
    if verdict.faults:
        context.exit(2)


class Verdict(NamedTuple):
    """What is said of a configuration that can be read."""

    found: Sequence[str]
    """What it means, a line each."""
    faults: Sequence[Fault]
    """Why no engine could run with it here."""
    warnings: Sequence[str]


def _judge(path: Path) -> Verdict:
    from mcmt import app

    channels = app.load_channels()
    loaded = app.load_settings(path, channels)
    warnings: list[str] = []
    if (run_as := app.wanted(loaded.settings)) is not None:
        if os.geteuid() == 0:
            app.become(run_as)
            loaded = app.load_settings(path, channels, loaded.content)
        else:
            warnings.append(f"run_as: what {run_as.user} may read and write only root or {run_as.user} can check")
    settings = loaded.settings
    warnings += [str(warning) for warning in loaded.warnings]
    found = [str(finding) for finding in loaded.findings]
    for name, domain in settings.domains.items():
        routes = ", ".join(map(str, domain.routes))
        found.append(loaded.reading.shown(f"domain {name}: {domain.delivery_method} to {routes}"))
    found += _doors(settings)
    faults = [Fault(str(path), "", text) for text in _missing(settings)]
    for place, fault in places(settings):
        if fault:
            faults.append(Fault(place, "", fault))
        else:
            found.append(f"{place}: can be written")
    return Verdict(found, faults, [*warnings, *_room(settings)])


def _doors(settings: Settings) -> Iterator[str]:
    """How messages come in, and where the engine can be asked."""
    from mcmt.config.settings import PyapnsSettings

    for listen in settings.listen:
        yield f"SMTP on {address(listen.host or '*', listen.port)}: mcmt_reception {listen.mcmt_reception}"
    for gateway in settings.gateways:
        pushes = ", ".join(sorted(gateway.served()))
        yield f"apns gateway on {address(gateway.host or '*', gateway.port)}: to {pushes}"
        if gateway.feedback is not None:
            host, port = gateway.feedback
            yield f"apns feedback on {address(host or '*', port)}: of {pushes}"
    if settings.monitor.listen is not None:
        host, port = settings.monitor.listen
        yield f"metrics on {address(host or '*', port)}"
    for http in settings.http.listen:
        secured = "with TLS" if http.tls_certificate else "without TLS"
        yield f"HTTP on {address(http.host or '*', http.port)}: {secured}, {len(settings.http.tokens)} tokens"
    for word, doors in (("pyapns", settings.pyapns), ("propeller", settings.propeller)):
        for door in doors:
            to = sorted(door.served())
            if isinstance(door, PyapnsSettings) and (making := door.make_domains) is not None:
                made = sum(one.suffix == making.suffix for one in settings.made.values())
                to.append(f"domains made below {making.suffix} ({made} of {making.most})")
            yield f"{word} on {address(door.host or '*', door.port)}: to {', '.join(to)}"
    for server in settings.beanstalkd:
        for tube, domain in server.tubes.items():
            yield f"beanstalkd at {server.address}: tube {tube} to {domain}"
    for one in settings.xmpp:
        yield f"component {one.jid} of {one.place}: to {one.domain}, for {', '.join(sorted(one.servers))}"


def _missing(settings: Settings) -> Iterator[str]:
    """Extras that stanzas need and that are not installed."""
    if settings.http.listen and find_spec("aiohttp") is None:
        from mcmt.intake.http import NEEDS_AIOHTTP

        yield NEEDS_AIOHTTP
    if settings.xmpp and find_spec("slixmpp") is None:
        from mcmt.intake.xmpp import NEEDS_SLIXMPP

        yield NEEDS_SLIXMPP
    if settings.opentelemetry and find_spec("opentelemetry") is None:
        from mcmt.telemetry import NEEDS_OPENTELEMETRY

        yield NEEDS_OPENTELEMETRY


def _room(settings: Settings) -> Iterator[str]:
    """Whether the spool's disk has what min_free wants: without it every client is told to come later."""
    standing = next(folder for folder in (settings.spool.path, *settings.spool.path.parents) if S_ISDIR(_mode(folder)))
    free = shutil.disk_usage(standing).free
    if free < settings.spool.min_free:
        yield (
            f"spool.min_free: {settings.spool.min_free} bytes must be free at {standing}, and {free} are: "
            "clients would get 452 4.3.1; make room, or lower min_free"
        )


def places(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every place that the engine writes to, and why it could not; nothing where it could."""
    from mcmt.spool.folder import folder_of_others

    spool = settings.spool.path
    yield f"spool {spool}", _folder_fault(spool, made=True) or folder_of_others(spool)
    for logger in settings.loggers:
        path = logger.logfile
        mode = _mode(path)
        if S_ISDIR(mode):
            fault = "is a folder; name a file"
        elif mode and not S_ISREG(mode):
            fault = "is not a regular file; name one"
        elif mode:
            fault = "" if os.access(path, os.W_OK) else "cannot be written; check its rights"
        else:
            fault = _folder_fault(path.parent, made=path.parent == settings.spool.path)
        yield f"log {path}", fault
    socket = settings.control_socket
    if _mode(socket) and not S_ISSOCK(_mode(socket)):
        yield f"control socket {socket}", "is there and is no socket; remove it, or name another in control.socket"
    elif fault := _folder_fault(socket.parent, made=socket.parent == settings.spool.path):
        yield f"control socket {socket}", fault


def _folder_fault(folder: Path, *, made: bool) -> str:
    """Why nothing could be written into *folder*; *made*: the engine makes it where it is missing."""
    standing = folder
    while made and not _mode(standing) and standing != standing.parent:
        standing = standing.parent
    if not _mode(standing):
        return f"its folder {folder} does not exist; make it"
    if not S_ISDIR(_mode(standing)):
        return f"{standing} is not a folder"
    if not os.access(standing, os.W_OK | os.X_OK):
        return f"{standing} cannot be written; check its rights and how it is mounted"
    return ""


def _mode(path: Path) -> int:
    """What *path* is, as in stat(2); 0 where there is nothing, or nothing that this user may see."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
