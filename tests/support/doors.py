"""An engine with every door for applications and old senders open, and what their clients have to know."""

from __future__ import annotations

from typing import Any, Final

from mcmt.intake.http.tokens import hash_of
from tests.support.tls import Certificates

KEY: Final = "mcmt_" + "k" * 43
"""Of the HTTP API."""
APP: Final = "myapp"
"""What clients of pyapns provision, for ``sandbox``."""
TOPIC: Final = "com.example.app"
SECRET: Final = "00000000-0000-0000-0000-000000000000"
"""Of clients of propeller-apns."""


def every_door(domain: str, certificates: Certificates, **more: Any) -> dict[str, Any]:
    """The stanzas, on ports that the system chooses, all to *domain*. *more*: of those of the older servers."""
    frames = {
        "tls_certificate": str(certificates.server),
        "tls_key": str(certificates.server_key),
        "client_ca": str(certificates.ca),
        "domain": domain,
        "feedback": "127.0.0.1:0",
    }
    return {
        "http_listener": {"listen": {"127.0.0.1:0": {}}, "tokens": {"shop": {"hash": hash_of(KEY)}}},
        "pyapns": {"listen": {"127.0.0.1:0": {"sandbox": {APP: domain}, **more}}},
        "propeller": {"listen": {"127.0.0.1:0": {"auth_token": SECRET, "topics": {TOPIC: domain}, **more}}},
        "apns_gateway": {"listen": {"127.0.0.1:0": {**frames, **more}}},
    }
