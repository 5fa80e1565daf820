"""An engine with an HTTP API, as the tests of it use one."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mcmt.client import Client
from mcmt.intake.http.tokens import hash_of
from tests.support.engine_process import EngineProcess

KEY = "mcmt_" + "k" * 43
"""Of the token ``shop``, which may do everything."""
OTHER_KEY = "mcmt_" + "o" * 43
"""Of ``other``, which may only ask."""
NARROW_KEY = "mcmt_" + "n" * 43
"""Of ``narrow``, which may only send, and only to narrow.example.com."""
TOKENS: dict[str, dict[str, Any]] = {
    "shop": {"hash": hash_of(KEY)},
    "other": {"hash": hash_of(OTHER_KEY), "scopes": ["status"]},
    "narrow": {"hash": hash_of(NARROW_KEY), "scopes": ["send"], "domains": ["narrow.example.com"]},
}
DISCARD = {"delivery_method": "discard", "routes": ["discard://sink"]}
TO = "user@discard.example.com"
MAIL = {"media_type": "message/rfc822", "text": "Subject: hello\r\n\r\ntext\r\n"}
MESSAGE = {"to": [TO], "parts": [MAIL]}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Api:
    """The engine and where its API is."""

    def __init__(self, process: EngineProcess, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Client:
        return Client(self.url, KEY, **options)

    def request(
        self,
        method: str = "POST",
        path: str = "/v1/messages",
        body: object = None,
        key: str | None = KEY,
        **headers: str,
    ) -> Answer:
        """One request on a connection of its own; *body*: bytes, or what is sent as JSON."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            given["Authorization"] = f"Bearer {key}"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if content is not None:
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, content, given)
            response = connection.getresponse()
            text = response.read()
        json_types = ("application/json", "application/problem+json")
        told = json.loads(text) if response.headers.get_content_type() in json_types else text
        return Answer(response.status, dict(response.headers), told)

    def restart(self) -> None:
        """Start the engine again; its port is another one."""
        self.process.start()
        self.port = self.process.doors["http_listener"]


@contextlib.contextmanager
def http_api(folder: Path, *, workers: int = 1, listen: dict[str, Any] | None = None, **stanzas: Any) -> Iterator[Api]:
    """An engine with a domain that throws everything away."""
    given = {
        "workers": workers,
        "http_listener": {"listen": {"127.0.0.1:0": listen or {}}, "tokens": TOKENS},
        **stanzas,
    }
    domains = {"narrow.example.com": DISCARD, **given.pop("domain", {"discard.example.com": DISCARD})}
    process = EngineProcess(folder, domains, **given)
    process.start()
    try:
        yield Api(process, process.doors["http_listener"])
    finally:
        if process.process is not None:
            process.stop()
