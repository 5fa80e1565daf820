"""Certificates for peers on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import trustme


class Certificates(NamedTuple):
    """Files of one authority, a server's certificate for localhost and a client's."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1", "::1")
    client = authority.issue_cert("app@example.com")
    files = Certificates(
        *(folder / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key"))
    )
    authority.cert_pem.write_to_path(str(files.ca))
    for credential, certificate, key in (
        (server, files.server, files.server_key),
        (client, files.client, files.client_key),
    ):
        for index, blob in enumerate(credential.cert_chain_pems):
            blob.write_to_path(str(certificate), append=index > 0)
        credential.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
    return files
