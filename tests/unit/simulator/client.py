"""A push client on python h2 that keeps every event, so that tests can say what the simulator sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import jwt
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame

from mcmt.simulator.apns import ApnsSimulator
from mcmt.simulator.credentials import Credentials

TOKEN = "ab" * 32
TOPIC = "com.example.app"
PAYLOAD = b'{"aps":{"alert":"hello"}}'


def provider_token(
    credentials: Credentials,
    issued_at: float,
    *,
    key: int = 0,
    headers: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
) -> str:
    """A token made by PyJWT, with a key of the credentials."""
    key_id = credentials.key_ids[key]
    return jwt.encode(
        {"iss": credentials.team_id, "iat": int(issued_at)} | dict(claims or {}),
        credentials.auth_key_of(key_id).read_text(),
        algorithm="ES256",
        headers={"kid": key_id} | dict(headers or {}),
    )


@dataclass
class Answer:
    """What came back on one stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["reason"]) if self.body else ""


class _ClientH2(H2Connection):
    """h2 as a client that may open streams over the limit, and whose streams outlive a GOAWAY (RFC 9113 6.8)."""

    unruly = False

    @property
    def open_outbound_streams(self) -> int:
        return -1 if self.unruly else super().open_outbound_streams

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data
        return [], [event]


class Client:
    """One connection; every answer, reset, SETTINGS and GOAWAY is kept."""

    def __init__(self, simulator: ApnsSimulator, credentials: Credentials, certificate: bool = False) -> None:
        self._simulator = simulator
        self._credentials = credentials
        self._certificate = certificate
        self.h2 = _ClientH2(H2Configuration(client_side=True, validate_outbound_headers=False))
        self.answers: dict[int, Answer] = {}
        self.settings: list[dict[int, int]] = []
        self.goaway: ConnectionTerminated | None = None
        self.eof = False
        self.pongs = 0
        self.acknowledge = True

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._credentials.ca))
        context.set_alpn_protocols(["h2"])
        if self._certificate:
            context.load_cert_chain(self._credentials.client_certificate, self._credentials.client_key)
        return context

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._simulator.port, ssl=self.context(), server_hostname="localhost"
        )
        self.alpn = self._writer.get_extra_info("ssl_object").selected_alpn_protocol()
        self.h2.initiate_connection()
        self.write()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):  # the simulator dropped the connection: some tests ask for that
            await self._writer.wait_closed()

    def write(self) -> None:
        self._writer.write(self.h2.data_to_send())

    @property
    def room(self) -> int:
        """MAX_CONCURRENT_STREAMS as the simulator last gave it."""
        return self.h2.remote_settings.max_concurrent_streams

    def open(
        self,
        token: str = TOKEN,
        payload: bytes | None = PAYLOAD,
        *,
        authorization: str | None = None,
        path: str | None = None,
        method: str = "POST",
        extra: Iterable[tuple[str, str]] = (),
        topic: str | None = TOPIC,
    ) -> int:
        """Queue one request; its stream id. A payload of None leaves the stream open for DATA."""
        stream_id = self.h2.get_next_available_stream_id()
        headers = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", f"/3/device/{token}" if path is None else path),
        ]
        if authorization is not None:
            headers.append(("authorization", f"bearer {authorization}"))
        if topic is not None:
            headers.append(("apns-topic", topic))
        headers.extend(extra)
        self.answers[stream_id] = Answer()
        self.h2.send_headers(stream_id, headers)
        if payload is not None:
            for start in range(0, len(payload), 16_000):
                self.h2.send_data(stream_id, payload[start : start + 16_000])
            self.h2.end_stream(stream_id)
        return stream_id

    async def push(self, *args: Any, **kwargs: Any) -> Answer:
        """Send one request and wait for its end."""
        stream_id = self.open(*args, **kwargs)
        self.write()
        return await self.answer(stream_id)

    async def answer(self, stream_id: int) -> Answer:
        answer = self.answers[stream_id]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def until(self, condition: Any) -> None:
        """Read until *condition* holds; fails when the connection ends first."""
        while not condition():
            assert not self.eof, "the connection ended"
            await self.read()

    async def read(self) -> None:
        try:
            data = await asyncio.wait_for(self._reader.read(65_536), 10)
        except ConnectionError:
            data = b""
        if not data:
            self.eof = True
            return
        for event in self.h2.receive_data(data):
            self._note(event)
        self.write()

    async def until_closed(self) -> None:
        while not self.eof:
            await self.read()

    def _note(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            answer = self.answers[event.stream_id]
            answer.headers = {name.decode(): value.decode() for name, value in event.headers}
            answer.status = int(answer.headers[":status"])
        elif isinstance(event, DataReceived):
            self.answers[event.stream_id].body += event.data
            if self.acknowledge:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.answers[event.stream_id].ended = True
        elif isinstance(event, StreamReset):
            self.answers[event.stream_id].reset = int(event.error_code)
        elif isinstance(event, RemoteSettingsChanged):
            self.settings.append({int(code): change.new_value for code, change in event.changed_settings.items()})
        elif isinstance(event, PingAckReceived):
            self.pongs += 1
        elif isinstance(event, ConnectionTerminated):
            self.goaway = event


MAX_STREAMS = int(SettingCodes.MAX_CONCURRENT_STREAMS)
WINDOW = int(SettingCodes.INITIAL_WINDOW_SIZE)
