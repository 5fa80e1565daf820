"""Debian's ejabberd on loopback, with users that are slixmpp's: one for the tests of a file.

It runs without epmd and without the package's own service, on a configuration and a spool of its own, as whoever runs
the tests. The component's name is one that the machine resolves, which is how an operator keeps subscriptions while the
component is down (docs/migrate.md): ejabberd takes its absence for a passing one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.peers import find_program, free_port, wait_for_port

HOST = "xmpp.test"
COMPONENT = "localhost"
SECRET = "s3cret"

CONFIGURATION = """
loglevel: info
hosts: [ "{host}" ]
certfiles: []
auth_password_format: plain
s2s_use_starttls: false
listen:
  - port: {c2s}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls: false
    access: all
  - port: {service}
    ip: "127.0.0.1"
    module: ejabberd_service
    access: all
    hosts:
      "{component}": {{ password: "{secret}" }}
acl: {{ local: {{ user_regexp: "" }} }}
modules:
  mod_disco: {{}}
  mod_register: {{ ip_access: all }}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_offline: {{}}
  mod_client_state: {{}}
  mod_stream_mgmt: {{}}
  mod_push: {{ include_sender: true, include_body: true }}
  mod_push_keepalive: {{}}
registration_timeout: infinity
"""


class Ejabberd(NamedTuple):
    """Where it waits for users and for components."""

    port: int
    service: int
    folder: Path

    @property
    def log(self) -> str:
        """What it has written so far."""
        file = self.folder / "logs" / "ejabberd.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def wait_log(self, pattern: str, times: int = 1, within: float = 30.0) -> None:
        """Return when *pattern* is in its log so many times."""
        deadline = time.monotonic() + within
        while len(re.findall(pattern, self.log)) < times:
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.05)  # files have no event to wait for


@contextlib.contextmanager
def ejabberd() -> Iterator[Ejabberd]:
    """A running one."""
    script = Path(find_program("ejabberdctl")).read_text()
    with tempfile.TemporaryDirectory(prefix="ejabberd-") as name:
        folder = Path(name)
        for each in ("spool", "logs", "run"):
            (folder / each).mkdir()
        server = Ejabberd(free_port(), free_port(), folder)
        values = {"host": HOST, "component": COMPONENT, "secret": SECRET}
        text = CONFIGURATION.format(c2s=server.port, service=server.service, **values)
        (folder / "ejabberd.yml").write_text(text)
        (folder / "ctl.cfg").write_text(
            "ERLANG_NODE=pushtest@localhost\nINET_DIST_INTERFACE=127.0.0.1\n"
            f"ERL_DIST_PORT={free_port()}\n"
            'ERL_OPTIONS="+S 1:1 -env ERL_CRASH_DUMP_BYTES 0"\n'
            f"EJABBERD_PID_PATH={folder}/run/ejabberd.pid\n"
        )
        # Debian's script would become its own user, who may not see the folder.
        control = folder / "ejabberdctl"
        control.write_text(script.replace("INSTALLUSER=ejabberd", "INSTALLUSER="))
        control.chmod(0o755)
        command = [str(control), "-c", str(folder / "ctl.cfg"), "-f", str(folder / "ejabberd.yml")]
        command += ["-s", str(folder / "spool"), "-l", str(folder / "logs"), "-d", str(folder), "foreground"]
        output = folder / "output"
        with output.open("w") as stdout:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HOME": name},
                start_new_session=True,
            )
        try:
            for port in (server.port, server.service):
                wait_for_port(port, process, within=60.0)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
