"""HTTP/2 servers that are not ours, as subprocesses on ports of their own, for one test each."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.tls import Certificates

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str) -> str:
    """Its path; a test that needs it fails, it does not skip."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert path, f"{name} is not installed: run tests/peers.sh"
    return path


def wait_for_port(port: int, process: subprocess.Popen[Any], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while True:
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        assert time.monotonic() < deadline, f"{process.args!r} does not listen on {port}"
        time.sleep(0.02)  # the peer has no other way to say that it is ready


@contextlib.contextmanager
def running(command: list[str], port: int, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    process = subprocess.Popen(command, **options)
    try:
        wait_for_port(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


HAPROXY_CFG = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen version1
    bind 127.0.0.1:{ports[0]}
    server mcmt 127.0.0.1:{server} send-proxy
listen version2
    bind 127.0.0.1:{ports[1]}
    option smtpchk EHLO haproxy.example.org
    server mcmt 127.0.0.1:{server} send-proxy-v2 check check-send-proxy inter 100ms
"""


@contextlib.contextmanager
def haproxy(server: int, folder: Path) -> Iterator[tuple[int, int]]:
    """HAProxy in front of the port *server*: the ports on which it sends headers of version 1 and of version 2; behind
    the second one it also checks the server."""
    ports = free_port(), free_port()
    (folder / "haproxy.cfg").write_text(HAPROXY_CFG.format(ports=ports, server=server))
    command = [find_program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
    with running(command, ports[1], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        yield ports


class Request(NamedTuple):
    """One line of nginx's access log."""

    apns_id: str
    status: int
    path: str
    topic: str
    push_type: str
    connection: int


class Nginx(NamedTuple):
    """A running nginx: where it listens and what it counted."""

    port: int
    status_port: int
    log: Path

    def requests(self) -> list[Request]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        fields = [line.split(" ") for line in lines]
        return [Request(f[0], int(f[1]), f[2], f[3], f[4], int(f[5])) for f in fields]

    def statuses(self) -> Counter[int]:
        return Counter(request.status for request in self.requests())

    def active_connections(self) -> int:
        """Connections open now, this question's own left out (stub_status)."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.status_port}/status", timeout=5) as answer:
            return int(answer.read().split()[2]) - 1


NGINX_CONF = """
user root;
worker_processes 1;
error_log {folder}/error.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  log_format push '$http_apns_id $status $uri $http_apns_topic $http_apns_push_type $connection';
  access_log {folder}/access.log push;
  {before}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    http2_max_concurrent_streams {streams};
    keepalive_requests {keepalive_requests};
    ssl_certificate {certificates.server};
    ssl_certificate_key {certificates.server_key};
    {server}
    location ~ ^/3/device/dead {{
      default_type application/json; add_header apns-id $http_apns_id always;
      return 410 '{{"reason":"Unregistered","timestamp":1700000000000}}';
    }}
    location ~ ^/3/device/ {{ add_header apns-id $http_apns_id always; {device} }}
    location @answer {{ add_header apns-id $http_apns_id always; return 200; }}
  }}
  server {{ listen 127.0.0.1:{status_port}; location /status {{ stub_status; access_log off; }} }}
}}
"""


@contextlib.contextmanager
def nginx(
    folder: Path,
    certificates: Certificates,
    *,
    streams: int = 1000,
    keepalive_requests: int = 10_000_000,
    server: str = "",
    device: str = "return 200;",
    before: str = "",
) -> Iterator[Nginx]:
    folder.mkdir(parents=True, exist_ok=True)
    port, status_port = free_port(), free_port()
    conf = folder / "nginx.conf"
    conf.write_text(
        NGINX_CONF.format(
            folder=folder,
            port=port,
            status_port=status_port,
            streams=streams,
            keepalive_requests=keepalive_requests,
            certificates=certificates,
            server=server,
            device=device,
            before=before,
        )
    )
    command = [find_program("nginx"), "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log")]
    with running([*command, "-g", "daemon off;"], port):
        yield Nginx(port, status_port, folder / "access.log")


class Nghttpd(NamedTuple):
    """A running nghttpd: 200 for the tokens that it has a file for, 404 for others."""

    port: int
    tokens: list[str]


@contextlib.contextmanager
def nghttpd(folder: Path, certificates: Certificates, *, streams: int = 100) -> Iterator[Nghttpd]:
    tokens = [f"{number:064x}" for number in range(20)]
    device = folder / "root" / "3" / "device"
    device.mkdir(parents=True)
    for token in tokens:
        (device / token).write_bytes(b"")
    port = free_port()
    command = [find_program("nghttpd"), "-a", "127.0.0.1", "-d", str(folder / "root"), "-m", str(streams)]
    command += [str(port), str(certificates.server_key), str(certificates.server)]
    with running(command, port, stdout=subprocess.DEVNULL):
        yield Nghttpd(port, tokens)


class NodePeer(NamedTuple):
    """Node's own HTTP/2 server with a script of faults; it tells what it saw when it is asked to end."""

    port: int
    process: subprocess.Popen[Any]
    file: Path

    def report(self) -> dict[str, Any]:
        """End it; what it saw: ``ids`` processed and how often, ``peak``, ``violations``, ``requests``."""
        self.process.terminate()
        assert self.process.wait(10) == 0
        report: dict[str, Any] = json.loads(self.file.read_text())
        return report


@contextlib.contextmanager
def node_peer(folder: Path, certificates: Certificates, mode: str) -> Iterator[NodePeer]:
    port, file = free_port(), folder / "peer.json"
    command = [find_program("node"), str(HERE / "http2_peer.js"), str(port)]
    command += [str(certificates.server), str(certificates.server_key), mode, str(file)]
    with running(command, port) as process:
        yield NodePeer(port, process, file)
