"""The gateway's own record: every push that it answered, with its moment, from nginx's log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.engine_process import apn_domain
from tests.support.peers import nginx
from tests.support.tls import Certificates

CONNECTIONS = 2
STREAMS = 100
_LOG = "log_format crash '$msec $http_apns_id $uri'; access_log {file} crash;"


class Push(NamedTuple):
    """One request."""

    time: float
    """Seconds since the epoch."""
    apns_id: str
    token: str


class Gateway(NamedTuple):
    """A running one: the stanza of a domain that pushes to it, and its log."""

    stanza: dict[str, Any]
    log: Path

    def pushes(self) -> list[Push]:
        found = []
        for line in self.log.read_text().splitlines():
            time, apns_id, path = line.split(" ")
            found.append(Push(float(time), apns_id, path.rpartition("/")[2]))
        return found


@contextlib.contextmanager
def gateway(folder: Path, certificates: Certificates) -> Iterator[Gateway]:
    """At most CONNECTIONS times STREAMS pushes are on the wire for one engine."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "pushes.log"
    with nginx(folder, certificates, streams=STREAMS, before=_LOG.format(file=log)) as peer:
        yield Gateway(apn_domain(peer.port, certificates, max_outbound_connections=CONNECTIONS), log)
