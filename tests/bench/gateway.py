"""The sink of every push: nginx over TLS and HTTP/2, and its access log, which is the one counter that is believed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.peers import find_program, free_port, running
from tests.support.tls import Certificates

CONF = """
load_module {module};
user root;
worker_processes 1;
error_log {folder}/error.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  log_format bench '$msec $status $http_apns_id';
  access_log {log} bench buffer=64k flush=50ms;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    http2_max_concurrent_streams 1000;
    keepalive_requests 1000000000;
    ssl_certificate {certificates.server};
    ssl_certificate_key {certificates.server_key};
    location /3/device/ {{ {device} }}
    location @answer {{ add_header apns-id $http_apns_id always; return 200; }}
  }}
}}
"""
ECHO = "/usr/lib/nginx/modules/ngx_http_echo_module.so"
AT_ONCE = "add_header apns-id $http_apns_id always; return 200;"
"""Answer when the header fields are there: costs nginx least."""
AFTER_BODY = "echo_read_request_body; echo_exec @answer;"
"""Answer when the body is there. Bodies of 4 KB that come after their answer nginx takes for an attack, in the end."""
POLL = 0.02


class Pushes(NamedTuple):
    """Requests as nginx has logged them; times are seconds since the epoch, in whole milliseconds, rounded down."""

    times: list[float]
    statuses: set[bytes]
    ids: list[str]

    @property
    def last(self) -> float:
        """When the last one was answered."""
        return max(self.times)

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return self.last - min(self.times)


def parse_log(data: bytes) -> Pushes:
    """The lines of FORMAT."""
    times, statuses, ids = [], set(), []
    for line in data.splitlines():
        stamp, status, apns_id = line.split(b" ")
        times.append(float(stamp))
        statuses.add(status)
        ids.append(apns_id.decode())
    return Pushes(times, statuses, ids)


class Gateway(NamedTuple):
    """A running nginx and its log."""

    port: int
    log: Path
    worker: int
    """The process id of its one worker."""

    def mark(self) -> int:
        """Where the log stands; runs are read from here on. Nothing may be under way."""
        return self.log.stat().st_size if self.log.exists() else 0

    def wait(self, mark: int, count: int, within: float, alive: Callable[[], bool] = lambda: True) -> Pushes:
        """The pushes past *mark*, when there are *count*. AssertionError when some were refused or came twice."""
        deadline = time.monotonic() + within
        position, lines = mark, 0
        while lines < count:
            assert time.monotonic() < deadline, f"nginx has counted {lines} of {count}"
            assert alive(), f"a contender has ended; nginx has counted {lines} of {count}"
            time.sleep(POLL)
            if not self.log.exists():
                continue
            with self.log.open("rb") as file:
                file.seek(position)
                data = file.read()
            position += len(data)
            lines += data.count(b"\n")
        pushes = self.since(mark)
        assert pushes.statuses == {b"200"}, pushes.statuses
        assert len(pushes.times) == count, f"{len(pushes.times)} requests for {count} pushes"
        return pushes

    def since(self, mark: int) -> Pushes:
        """The pushes past *mark*, however many."""
        with self.log.open("rb") as file:
            file.seek(mark)
            return parse_log(file.read().rpartition(b"\n")[0])


@contextlib.contextmanager
def gateway(folder: Path, certificates: Certificates, device: str = AT_ONCE) -> Iterator[Gateway]:
    """nginx with one worker, 1,000 streams a connection, 200 to every push."""
    folder.mkdir(parents=True)
    port, log, conf = free_port(), folder / "access.log", folder / "nginx.conf"
    conf.write_text(
        CONF.format(module=ECHO, folder=folder, log=log, port=port, device=device, certificates=certificates)
    )
    command = [find_program("nginx"), "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log")]
    with running([*command, "-g", "daemon off;"], port) as master:
        children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
        deadline = time.monotonic() + 20
        while not (found := children.read_text().split()):  # it listens before it has forked
            assert time.monotonic() < deadline, "nginx has no worker"
            time.sleep(0.01)
        (worker,) = found
        yield Gateway(port, log, int(worker))
