"""Our connection and python h2 as its peer, in memory. h2 raises when we break a rule: a window, a limit, a block."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.events import Event as PeerEvent
from h2.settings import SettingCodes

from mcmt.wire.http2 import ClientConnection, Event, Response


class ConnectionPair:
    """A client and a peer; ``exchange`` carries bytes both ways until neither has any left."""

    def __init__(self, max_streams: int = 1_000, chunk: int = 65_536, **settings: int) -> None:
        self.client = ClientConnection(max_streams)
        self.peer = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.peer.initiate_connection()
        self.set(**settings)
        self.chunk = chunk
        self.events: list[Event] = []
        self.bodies: dict[int, bytes] = {}
        """What the peer received, by stream."""
        self.headers: dict[int, list[tuple[str, str]]] = {}
        self.ended: list[int] = []
        """Streams whose request the peer has whole, in order, until ``answer_all``."""
        self.resets: dict[int, int] = {}
        self.most_open = 0
        self.exchange()

    def exchange(self, give_back: bool = True) -> list[Event]:
        """Carry bytes until both are silent; our events. *give_back*: the peer gives windows back for what it read."""
        new: list[Event] = []
        while True:
            out, back = self.client.data_to_send(), b""
            for start in range(0, len(out), self.chunk):
                for event in self.peer.receive_data(out[start : start + self.chunk]):
                    self._note(event, give_back)
            back = self.peer.data_to_send()
            for start in range(0, len(back), self.chunk):
                new += self.client.receive(back[start : start + self.chunk])
            if not out and not back:
                self.events += new
                return new

    def _note(self, event: PeerEvent, give_back: bool) -> None:
        self.most_open = max(self.most_open, self.peer.open_inbound_streams)
        if isinstance(event, RequestReceived):
            assert event.stream_id not in self.headers
            self.headers[event.stream_id] = [(str(field[0]), str(field[1])) for field in event.headers]
            self.bodies[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            if give_back and event.flow_controlled_length:
                self.peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.append(event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = int(event.error_code)

    def answer(self, stream_id: int, status: int = 200, body: bytes = b"", padding: int | None = None) -> None:
        """Queue a whole response at the peer."""
        fields = [(":status", str(status)), ("apns-id", f"id-{stream_id}")]
        self.peer.send_headers(stream_id, fields, end_stream=not body)
        if body:
            self.peer.send_data(stream_id, body, end_stream=True, pad_length=padding)

    def answer_all(self) -> list[Response]:
        """Answer every request that the peer has whole; our responses."""
        for stream_id in self.ended:
            self.answer(stream_id)
        self.ended.clear()
        return [event for event in self.exchange() if isinstance(event, Response)]

    def set(self, **settings: int) -> None:
        """Queue SETTINGS at the peer."""
        self.peer.update_settings({SettingCodes[name.upper()]: value for name, value in settings.items()})
