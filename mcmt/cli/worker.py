"""``mcmt worker``: one process of an engine with several, started by ``mcmt serve`` and by nobody else."""

from __future__ import annotations

import os
import socket

import click

from mcmt.cli.diagnostics import set_up_diagnostics


@click.command(hidden=True)
@click.option("--number", type=int, required=True, help="From 0; for who looks at the list of processes.")
@click.option("--bus", type=int, required=True, help="Descriptor of the connection to the supervisor.")
@click.option("--connections", type=int, required=True, help="Descriptor that connections are passed through.")
@click.option("--supervisor", type=int, required=True, help="Its pid.")
def worker(number: int, bus: int, connections: int, supervisor: int) -> None:
    """Be one process of an engine that has several."""
    from mcmt.app.worker import die_with

    die_with(supervisor)
    set_up_diagnostics(os.environ, f"worker {number}: ")
    import uvloop

    from mcmt.app.leaving import leave
    from mcmt.app.worker import work

    uvloop.run(work(socket.socket(fileno=bus), socket.socket(fileno=connections)))
    leave()
