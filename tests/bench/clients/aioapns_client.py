"""Push by aioapns: PYTHON aioapns_client.py PORT COUNT PAYLOAD-FILE CA CERT-WITH-KEY. Runs in aioapns's own venv.

As many requests at once as the gateway allows, on one connection, on uvloop.
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import uvloop
from aioapns import APNs, NotificationRequest, PushType  # type: ignore[import-not-found]  # in a venv of its own
from aioapns.connection import APNsProductionClientProtocol  # type: ignore[import-not-found]  # likewise

STREAMS = 1000


async def push(port: int, count: int, payload: bytes, ca: str, certificate: str) -> None:
    """Push *count* times."""
    APNsProductionClientProtocol.APNS_SERVER = "localhost"
    APNsProductionClientProtocol.APNS_PORT = port
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    apns = APNs(client_cert=certificate, topic="com.example.app", max_connections=1, ssl_context=context)
    message = json.loads(payload)
    numbers = iter(range(count))

    async def one_after_another() -> None:
        for number in numbers:
            request = NotificationRequest(f"{number:064x}", message, priority=10, push_type=PushType.ALERT)
            result = await apns.send_notification(request)
            assert result.is_successful, result.description

    # One fewer than the streams: a full connection has aioapns wait 10 ms and look again.
    await asyncio.gather(*(one_after_another() for _ in range(STREAMS - 1)))


if __name__ == "__main__":
    uvloop.run(push(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).read_bytes(), *sys.argv[4:6]))
