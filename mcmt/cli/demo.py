"""``mcmt demo``: the whole way of one message on loopback: SMTP in, engine, Apple's gateway (simulated), log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcmt.cli import sample
from mcmt.cli.common import address, printable
from mcmt.cli.demo_files import SPOOL, choose_logs, make_folder, write_config
from mcmt.cli.diagnostics import set_up_diagnostics
from mcmt.errors import ControlError, ListenError

if TYPE_CHECKING:
    from mcmt.app import App
    from mcmt.message.event import Event
    from mcmt.simulator.received import Received

_LIMIT = 30.0
"""Seconds that the round trip may take."""


@click.command()
@click.option("--once", is_flag=True, help="End after the round trip: with 0, or with 1 when it did not come about.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=".demo",
    show_default=True,
    help="Folder for configuration, spool and keys.",
)
@click.option(
    "--smtp-port",
    type=click.IntRange(0, 65535),
    default=2525,
    show_default=True,
    help="Port of the SMTP listener on 127.0.0.1; 0: any free one.",
)
def demo(once: bool, folder: Path, smtp_port: int) -> None:
    """See a message go all the way, with nothing to configure.

    Starts an engine and a simulator of Apple's gateway, hands in a sample message over SMTP, and shows the reply, the
    push as the gateway got it, and the line in the log. Then it serves until Ctrl-C, so that you can send more. Nothing
    but loopback is touched.
    """
    set_up_diagnostics(os.environ)
    logging.getLogger("mcmt").setLevel(logging.WARNING)
    make_folder(folder)
    _refuse_second(folder)
    import uvloop

    uvloop.run(_run(folder, smtp_port, once=once))


def _refuse_second(folder: Path) -> None:
    """A demo that runs there keeps its files."""
    from mcmt.control.client import ControlClient

    try:
        with ControlClient(folder.absolute() / SPOOL / "control.sock", 5.0) as client:
            pid = client.hello.pid
    except ControlError:
        return
    raise click.ClickException(
        f"a demo runs in {folder} already (pid {pid}): stop it, or name another folder with --dir"
    )


async def _run(folder: Path, smtp_port: int, *, once: bool) -> None:
    from mcmt import app as mcmt_app
    from mcmt.simulator.apns import ApnsSimulator
    from mcmt.simulator.credentials import make_credentials

    credentials = make_credentials(folder / "credentials", (sample.TOPIC,))
    asked_to_stop = asyncio.Event()
    scene = _Scene(asked_to_stop.set)
    async with ApnsSimulator(tls=credentials, on_received=scene.push) as simulator:
        logfile = choose_logs(folder) / "apnlog.ec"
        config = write_config(folder, logfile, credentials, simulator.port, smtp_port)
        channels = mcmt_app.load_channels()
        app = mcmt_app.App(mcmt_app.load_settings(config, channels).settings, channels)
        try:
            await app.start()
        except ListenError as error:
            raise click.ClickException(
                f"{error}\nWhatever listens there (another demo?) has to stop, "
                "or let the system choose a port: mcmt demo --smtp-port 0"
            ) from None
        try:
            host, port = app.doors.addresses[0]
            click.echo(f"engine     SMTP on {address(host, port)}, configured by {config}")
            click.echo(f"simulator  Apple's gateway, at apn://127.0.0.1:{simulator.port}")
            await _until(asked_to_stop, scene.play(app, logfile), config, once=once)
        finally:
            await app.stop()


async def _until(asked: asyncio.Event, play: Coroutine[None, None, None], config: Path, *, once: bool) -> None:
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if asked.is_set():  # a second time: do not wait for what is on the wire
            raise KeyboardInterrupt
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    stop = loop.create_task(asked.wait())
    trip = loop.create_task(play)
    await asyncio.wait({stop, trip}, return_when=asyncio.FIRST_COMPLETED)
    if trip.done():
        trip.result()
        if not once:
            _say_what_next(config)
            await stop
    for task in (stop, trip):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _Scene:
    """The sample message's way, shown as it is gone; and after it whatever else comes."""

    def __init__(self, nobody_reads: Callable[[], None]) -> None:
        self._nobody_reads = nobody_reads
        self._pushes: dict[str, Received] = {}
        self._lines: dict[str, str] = {}
        self._news = asyncio.Event()
        self._played = False

    def push(self, push: Received) -> None:
        """The simulator got a push."""
        if self._played:
            payload = printable(push.payload.decode(errors="replace"))
            self._show(f"push  {push.status or '-'} {push.reason or 'OK'}  {payload}")
            return
        self._pushes[push.apns_id] = push
        self._news.set()

    def line(self, logger: str, line: str, event: Event) -> None:
        """A line reached a log file."""
        if not logger.startswith("apn_logger."):
            return
        if self._played:
            self._show(f"log   {line}")
        elif event.kind in ("D", "P"):
            self._lines[event.batch_id] = line
            self._news.set()

    def _show(self, text: str) -> None:
        """Called by the engine and by the simulator, who must not hear of a terminal that was closed."""
        try:
            click.echo(text)
        except OSError:
            self._nobody_reads()

    async def play(self, app: App, logfile: Path) -> None:
        """Send the sample, wait for what comes of it. Raises click.ClickException when it does not come about."""
        from mcmt.message.identity import uuid_of

        app.eventlog.follow(self.line)
        step = "the SMTP reply"
        try:
            async with asyncio.timeout(_LIMIT):
                batch_id = await self._hand_in(*app.doors.addresses[0])
                step = "the push"
                await self._show_push(uuid_of(batch_id, 1))
                step = f"the line in {logfile}"
                while batch_id not in self._lines:
                    await self._more()
        except TimeoutError:
            raise click.ClickException(f"{step} did not come within {_LIMIT:g} seconds") from None
        line = self._lines[batch_id]
        _title(f"the line in {logfile}")
        click.echo(line)
        self._played = True
        self._pushes.clear()
        self._lines.clear()
        if "@D@" not in line:
            raise click.ClickException("the push was not delivered; the line says why")

    async def _hand_in(self, host: str, port: int) -> str:
        from mcmt.cli.submission import submit

        _title("the message, handed in over SMTP")
        click.echo(sample.MESSAGE, nl=False)
        message = sample.MESSAGE.replace("\n", "\r\n").encode()
        reply = await asyncio.to_thread(submit, host, port, sample.SENDER, sample.RECIPIENT, message)
        _title("the reply")
        click.echo(reply.text)
        if not reply.accepted:
            raise click.ClickException("the engine refused the sample message")
        return reply.batch_id

    async def _show_push(self, apns_id: str) -> None:
        while apns_id not in self._pushes:
            await self._more()
        push = self._pushes[apns_id]
        _title(f"the push, as the simulator received it, answered by {push.status} {push.reason or 'OK'}")
        for name, value in push.headers.items():
            # The provider token is good for an hour: not for the screen.
            shown = "bearer ..." if name == "authorization" else value
            click.echo(f"{name}: {printable(shown)}")
        click.echo()
        click.echo(push.payload)

    async def _more(self) -> None:
        self._news.clear()
        await self._news.wait()


def _title(text: str) -> None:
    click.secho(f"\n--- {text}", bold=True)


def _say_what_next(config: Path) -> None:
    command = "mcmt" if shutil.which("mcmt") else os.path.relpath(sys.argv[0])
    base = f"{command} send --config {config}"
    _title("send another, from a second terminal")
    click.echo(f'{base} --token {sample.TOKEN} --alert "Hello" --wait')
    click.echo("\none to a device that is gone: 410 Unregistered, a P line")
    click.echo(f'{base} --token {sample.DEAD_TOKEN} --alert "Hello" --wait')
    click.echo(f"\nor look: {command} status --config {config}")
    click.echo("\nserving until Ctrl-C")
