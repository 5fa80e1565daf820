"""``mcmt simulate apns``: a stand-in for Apple's gateway, to push to without an account.

It prints where it listens and the lines that a domain stanza needs to reach it, then one line a push. It
prints no key, no certificate and no provider token.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from mcmt.errors import ConfigError
from mcmt.message.route import Route
from mcmt.simulator.apns import ApnsSimulator, Received
from mcmt.simulator.binary import BinarySimulator
from mcmt.simulator.credentials import Credentials, make_credentials
from mcmt.simulator.rules_file import read_rules

Simulator = ApnsSimulator | BinarySimulator

_SHOWN = 60
"""Characters of a payload that a line shows."""
_LISTEN = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})")


@click.group()
def simulate() -> None:
    """Stand-ins for gateways, for tests and for work without an account."""


def _address(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str | None, int] | None:  # noqa: ARG001 - click's
    if value is None:
        return None
    match = _LISTEN.fullmatch(value)
    if match is None or int(match["port"]) > 65_535:
        raise click.BadParameter(f"expected HOST:PORT such as 127.0.0.1:2197 or [::1]:2197, got {value!r}")
    return match["v6"] or match["host"] or None, int(match["port"])


@simulate.command()
@click.option(
    "--listen",
    callback=_address,
    metavar="HOST:PORT",
    help="Default: 127.0.0.1:2197, with --binary 127.0.0.1:2195.",
)
@click.option("--binary", is_flag=True, help="The gateway that Apple has switched off: the binary protocol.")
@click.option(
    "--feedback",
    default="127.0.0.1:2196",
    show_default=True,
    callback=_address,
    metavar="HOST:PORT",
    help="With --binary: the feedback service.",
)
@click.option(
    "--credentials",
    "folder",
    default="simulator",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with certificates and keys; made if absent.",
)
@click.option("--topic", "topics", multiple=True, help="Bundle id that may be pushed to; may be repeated.")
@click.option("--rules", type=click.Path(dir_okay=False, path_type=Path), help="YAML file of answers and faults.")
@click.option(
    "--max-streams", default=1000, show_default=True, type=click.IntRange(1, 2**31 - 1), help="Streams of a connection."
)
@click.option("--any-token-length", is_flag=True, help="Take device tokens of any number of hex digits.")
@click.option("--goaway-on-violation", is_flag=True, help="End connections that open a stream over the limit.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--quiet", is_flag=True, help="No line for a push; the totals at the end.")
def apns(
    listen: tuple[str | None, int] | None,
    binary: bool,
    feedback: tuple[str | None, int],
    folder: Path,
    topics: Sequence[str],
    rules: Path | None,
    max_streams: int,
    any_token_length: bool,
    goaway_on_violation: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Apple's push gateway, as strict as Apple. Ends on Ctrl-C or SIGTERM.

    Device tokens that begin with dead or fa11 provoke refusals and faults; docs/simulator.md lists them.
    """
    try:
        ruled = read_rules(rules) if rules is not None else ()
        credentials = make_credentials(folder, topics) if topics else make_credentials(folder)

        def make(received: Callable[[Received], None] | None) -> Simulator:
            if binary:
                return BinarySimulator(
                    tls=credentials,
                    listen=listen or ("127.0.0.1", 2195),
                    feedback=feedback,
                    rules=ruled,
                    any_token_length=any_token_length,
                    history=0,
                    on_received=received,
                )
            host, port = listen or ("127.0.0.1", 2197)
            return ApnsSimulator(
                tls=credentials,
                host=host,
                port=port,
                rules=ruled,
                max_streams=max_streams,
                any_token_length=any_token_length,
                goaway_on_violation=goaway_on_violation,
                history=0,
                on_received=received,
            )

        asyncio.run(_run(make, listen or ("127.0.0.1", 2195 if binary else 2197), credentials, as_json, quiet))
    except ConfigError as error:
        for fault in error.faults:
            click.echo(f"mcmt: {fault}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our lines went away; so do we, without the interpreter's complaint at exit.
        sys.stderr.close()
        sys.exit(1)


async def _run(
    make: Callable[[Callable[[Received], None] | None], Simulator],
    listen: tuple[str | None, int],
    credentials: Credentials,
    as_json: bool,
    quiet: bool,
) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    lines = _Lines(loop, as_json, ended)
    simulator = make(None if quiet else lines.push)
    try:
        await simulator.start()
    except OSError as error:
        click.echo(f"mcmt: cannot listen on {_shown(*listen)}: {error.strerror or error}", err=True)
        sys.exit(1)
    try:
        lines.listening(listen[0], simulator, credentials)
        await ended.wait()
    finally:
        await simulator.aclose()
    lines.totals(simulator)


class _Lines:
    """What goes to standard output: gathered, and written once a turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, as_json: bool, ended: asyncio.Event) -> None:
        self._loop = loop
        self._as_json = as_json
        self._ended = ended
        self._gathered: list[str] = []
        self._broken: OSError | None = None

    def listening(self, host: str | None, simulator: Simulator, credentials: Credentials) -> None:
        """Where it listens, and what a client needs."""
        route = Route("apn", _reachable(host), simulator.port)
        if isinstance(simulator, BinarySimulator):
            self._listening_binary(host, simulator, f"{route}?protocol=binary", credentials)
            return
        port = simulator.port
        options = {
            "routes": [str(route)],
            "tls_ca": str(credentials.ca),
            "apn_auth_key": str(credentials.auth_key),
            "apn_key_id": credentials.key_id,
            "apn_team_id": credentials.team_id,
            "apn_topic": credentials.topics[0],
        }
        certificate = {
            "tls_certificate": str(credentials.client_certificate),
            "tls_key": str(credentials.client_key),
        }
        if self._as_json:
            self._say(json.dumps({"event": "listening", "port": port, **options, **certificate}))
        else:
            self._say(f"listening on {_shown(host, port)}; a domain that pushes here:")
            self._say("domain:\n  apn.example.com:\n    delivery_method: apn")
            # JSON is YAML: quoted where it must be.
            self._say("\n".join(f"    {name}: {json.dumps(value)}" for name, value in options.items()))
            self._say("    # a certificate in place of the key:")
            self._say("\n".join(f"    # {name}: {json.dumps(value)}" for name, value in certificate.items()))
        self._write()

    def _listening_binary(
        self, host: str | None, simulator: BinarySimulator, route: str, credentials: Credentials
    ) -> None:
        port, feedback = simulator.port, simulator.feedback_port
        options = {
            "routes": [route],
            "tls_ca": str(credentials.ca),
            "tls_certificate": str(credentials.client_certificate),
            "tls_key": str(credentials.client_key),
        }
        if self._as_json:
            self._say(json.dumps({"event": "listening", "port": port, "feedback_port": feedback, **options}))
        else:
            self._say(f"listening on {_shown(host, port)}, feedback on port {feedback}; a domain that pushes here:")
            self._say("domain:\n  apn.example.com:\n    delivery_method: apn")
            self._say("\n".join(f"    {name}: {json.dumps(value)}" for name, value in options.items()))
        self._write()

    def push(self, push: Received) -> None:
        """One push, as it was answered."""
        if not self._gathered:
            self._loop.call_soon(self._write)
        self._gathered.append(_json_line(push) if self._as_json else _line(push))

    def totals(self, simulator: Simulator) -> None:
        """How it went."""
        counts = {
            f"{status or '-'} {reason}".strip(): count for (status, reason), count in sorted(simulator.counts.items())
        }
        if self._as_json:
            self._say(
                json.dumps(
                    {
                        "event": "totals",
                        "pushes": simulator.total,
                        "counts": counts,
                        "connections": simulator.connections_total,
                        "connections_peak": simulator.connections_peak,
                        **({"streams_peak": simulator.streams_peak} if isinstance(simulator, ApnsSimulator) else {}),
                        "violations": simulator.violations,
                    }
                )
            )
        else:
            streams = f", {simulator.streams_peak} streams on one" if isinstance(simulator, ApnsSimulator) else ""
            self._say(
                f"{simulator.total} pushes over {simulator.connections_total} connections "
                f"(at most {simulator.connections_peak} at a time{streams})"
            )
            self._say("\n".join(f"{count:8} {name}" for name, count in counts.items()))
            self._say("\n".join(f"violation: {_clean(text)}" for text in simulator.violations))
        self._write()
        if self._broken is not None:
            raise self._broken

    def _say(self, text: str) -> None:
        if text:
            self._gathered.append(text)

    def _write(self) -> None:
        gathered, self._gathered = self._gathered, []
        if self._broken is not None or not gathered:
            return
        try:
            sys.stdout.write("\n".join(gathered) + "\n")
            sys.stdout.flush()
        except OSError as error:
            self._broken = error
            self._ended.set()


def _line(push: Received) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(push.at))
    result = f"{push.status or '-'} {push.reason or 'OK'}"
    payload = push.payload.decode(errors="replace")
    shown = payload if len(payload) <= _SHOWN else payload[: _SHOWN - 1] + "…"
    return _clean(f"{clock} {push.token or '-'} {push.topic or '-'} {result} {push.apns_id} {shown}")


def _json_line(push: Received) -> str:
    return json.dumps(
        {
            "event": "push",
            "time": round(push.at, 3),
            "token": push.token,
            "topic": push.topic,
            "status": push.status,
            "reason": push.reason,
            "apns_id": push.apns_id,
            "headers": {
                name: value
                for name, value in push.headers.items()
                if name.startswith("apns-")  # authorization is a secret
            },
            "connection": push.connection,
            "stream": push.stream,
            "payload": push.payload.decode(errors="replace"),
        }
    )


def _clean(text: str) -> str:
    """Nothing a client sends may move the terminal's cursor."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02X}" for character in text)


def _shown(host: str | None, port: int) -> str:
    return f"[{host}]:{port}" if host and ":" in host else f"{host or ''}:{port}"


def _reachable(host: str | None) -> str:
    """A name in the server's certificate for the address that it listens on."""
    return host if host in ("127.0.0.1", "::1", "localhost") else "localhost"
