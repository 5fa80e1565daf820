"""What ``mcmt demo`` writes before it starts: a configuration like any other, that pushes to the simulator."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli import sample

if TYPE_CHECKING:
    from mcmt.simulator.credentials import Credentials

CONFIG = "mcmt.yaml"
SPOOL = "spool"

_TEXT = """\
# Written by mcmt demo, anew each time. config/mcmt.yaml has every option there is.
hostname: localhost
spool: {{path: {spool}}}
esmtp_listener:
  listen:
    "127.0.0.1:{smtp_port}": {{mcmt_reception: allow}}
domain:
  {domain}:
    delivery_method: apn
    routes: ["apn://127.0.0.1:{apns_port}"]    # the simulator
    tls_ca: {ca}
    apn_auth_key: {auth_key}
    apn_key_id: {key_id}
    apn_team_id: {team_id}
    apn_topic: {topic}
  example.com:                                # the sender's: reports of failures end here
    delivery_method: discard
    routes: ["discard://demo"]
apn_logger:
  apn_logger1: {{logfile: {logfile}}}
"""


def make_folder(folder: Path) -> None:
    """Make the demo's folder, for its owner alone. Raises click.ClickException."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror}: name another folder with --dir") from None


def choose_logs(folder: Path) -> Path:
    """``logs`` in the current folder where that can be had, else in the demo's own."""
    logs = Path("logs")
    try:
        logs.mkdir(exist_ok=True)
        if os.access(logs, os.W_OK | os.X_OK):
            return logs
    except OSError:
        pass
    inner = folder / "logs"
    inner.mkdir(exist_ok=True)
    return inner


def write_config(folder: Path, logfile: Path, credentials: Credentials, apns_port: int, smtp_port: int) -> Path:
    """Write the configuration; its path. Raises click.ClickException."""
    # JSON strings are YAML: quoted where they must be.
    text = _TEXT.format(
        spool=SPOOL,
        smtp_port=smtp_port,
        domain=sample.DOMAIN,
        apns_port=apns_port,
        ca=json.dumps(str(credentials.ca)),
        auth_key=json.dumps(str(credentials.auth_key)),
        key_id=json.dumps(credentials.key_id),
        team_id=json.dumps(credentials.team_id),
        topic=sample.TOPIC,
        logfile=json.dumps(str(logfile.absolute())),
    )
    file = folder / CONFIG
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}: name another folder with --dir") from None
    return file
