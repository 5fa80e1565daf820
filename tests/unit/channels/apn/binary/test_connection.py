"""One connection of the binary protocol with a stream in memory and the time moved by hand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.apn.binary.connection import CLOSE_TIMEOUT, LOOKS, REPORTED_AT_ONCE, STALLED_AFTER, BinaryConnection
from channels.apn.binary.frames import FrameBuilder
from mcmt.message.model import Delivery, Headers, Part, Sender
from mcmt.message.status import Disposition, Outcome
from mcmt.wire.apns_binary import Notification, NotificationParser, Status, error_packet
from mcmt.wire.trace import Trace
from tests.support.manual_clock import ManualClock
from tests.support.watching import Watcher

TIMEOUT = 5.0
RECEIVED = 1_700_000_000.0
PART = Part("message/vnd.msys.apn", (), b'{"aps":{}}')
SIZE = 56 + len(PART.content) + 5

DELIVERED, REFUSED = Disposition.DELIVERED, Disposition.REFUSED


class Recorder:
    """The engine's side."""

    trace: Trace | None = None

    def __init__(self) -> None:
        self.results: list[tuple[int, Outcome]] = []
        self.batches: list[int] = []
        self.wakes = 0
        self.on_wake: Callable[[], object] = lambda: None
        self.ends: list[str] = []

    def outcomes(self, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        assert not self.ends, "outcomes come before the end"
        self.batches.append(len(batch))
        self.results += [(delivery.number, outcome) for delivery, outcome in batch]

    def wake(self) -> None:
        self.wakes += 1
        self.on_wake()

    def leaving(self) -> None:
        raise AssertionError("it never outlives what it takes")

    def closed(self, reason: str) -> None:
        self.ends.append(reason)

    @property
    def dispositions(self) -> dict[int, Disposition]:
        assert len({number for number, _ in self.results}) == len(self.results), "one outcome each"
        return {number: outcome.disposition for number, outcome in self.results}


class Stream:
    """What TlsStream would be, in memory."""

    remote_address = "192.0.2.1"

    def __init__(self, connection: BinaryConnection) -> None:
        self.connection = connection
        self.written = b""
        self.writes = 0
        self.waiting = 0
        self.writable = True
        self.closes: list[int] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.aborted
        self.written += data
        self.writes += 1

    def unsent(self) -> int:
        return self.waiting

    def close(self) -> None:
        self.closes.append(len(self.written))

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            asyncio.get_running_loop().call_soon(self.connection.lost, None)

    def frames(self) -> list[Notification]:
        return NotificationParser().receive(self.written)


class Gateway:
    """A connection, its stream, its clock and its report."""

    def __init__(self, window: int = 20_000, first_identifier: int = 1) -> None:
        self.clock = ManualClock()
        self.report = Recorder()
        self.connection = BinaryConnection(
            FrameBuilder(3600.0), window, TIMEOUT, self.report, self.clock, first_identifier
        )
        self.stream = Stream(self.connection)
        self.connection.opened(self.stream)  # type: ignore[arg-type]  # all of it that is asked for

    def offer(self, count: int, first: int = 1) -> int:
        return self.connection.send([delivery(number) for number in range(first, first + count)])

    def tell(self, status: int, identifier: int) -> None:
        self.connection.received(error_packet(status, identifier))

    async def settle(self) -> None:
        """Let what was put off until the next turn of the loop happen."""
        self.clock.advance(0)
        for _ in range(3):
            await asyncio.sleep(0)


def delivery(number: int, headers: Headers = (), token: str = "") -> Delivery:
    sender = Sender("018bcfe568007abc81234567", RECEIVED, "app@example.com", {})
    part = PART if not headers else Part(PART.media_type, headers, PART.content)
    return Delivery(number, number, "a.example", "u@a.example", token or f"{number:064x}", 0, 9e9, sender, part)


def expected(last: int, disposition: Disposition, first: int = 1) -> dict[int, Disposition]:
    return dict.fromkeys(range(first, last + 1), disposition)


async def test_silence_for_the_timeout_confirms_and_not_a_moment_less() -> None:
    gateway = Gateway()
    assert gateway.offer(3) == 3
    gateway.clock.advance(TIMEOUT - 0.001)
    assert gateway.report.results == []
    gateway.clock.advance(TIMEOUT * 2 / LOOKS)
    assert gateway.report.dispositions == expected(3, DELIVERED)
    assert gateway.report.wakes == 1
    (_, outcome), *_ = gateway.report.results
    assert (outcome.code, outcome.text) == ("", ""), "the gateway said nothing"
    assert (outcome.remote_id, outcome.remote_address, outcome.size) == ("1", "192.0.2.1", SIZE)
    assert TIMEOUT <= outcome.duration <= TIMEOUT * (1 + 2 / LOOKS)


async def test_a_burst_is_one_write_and_its_confirmation_one_report() -> None:
    gateway = Gateway()
    gateway.offer(500)
    assert gateway.stream.writes == 1
    gateway.clock.advance(2 * TIMEOUT)
    assert gateway.report.batches == [500]
    assert [frame.identifier for frame in gateway.stream.frames()] == list(range(1, 501))


async def test_a_large_window_is_reported_in_pieces_with_turns_of_the_loop_between() -> None:
    gateway = Gateway()
    gateway.offer(2 * REPORTED_AT_ONCE + 1)
    gateway.clock.advance(2 * TIMEOUT)
    assert gateway.report.batches == [REPORTED_AT_ONCE, REPORTED_AT_ONCE, 1]


async def test_the_window_limits_what_is_not_confirmed() -> None:
    gateway = Gateway(window=10)
    assert gateway.offer(25) == 10
    assert gateway.offer(25, first=11) == 0
    gateway.clock.advance(2 * TIMEOUT)
    assert gateway.offer(25, first=11) == 10


async def test_a_stream_that_takes_nothing_is_offered_nothing_until_it_asks() -> None:
    gateway = Gateway()
    gateway.stream.writable = False
    assert gateway.offer(1) == 0
    gateway.stream.writable = True
    gateway.connection.drained()
    assert gateway.report.wakes == 1
    assert gateway.offer(1) == 1


async def test_the_silence_about_a_frame_begins_when_it_has_left_this_machine() -> None:
    gateway = Gateway()
    gateway.offer(10)
    gateway.stream.waiting = 4 * SIZE - 1  # the last four are not out, the fourth-last but for a byte
    gateway.clock.advance(TIMEOUT * (1 + 2 / LOOKS))
    assert gateway.report.dispositions == expected(6, DELIVERED)
    gateway.stream.waiting = 0
    gateway.clock.advance(TIMEOUT - 0.001)
    assert len(gateway.report.results) == 6
    gateway.clock.advance(TIMEOUT * 2 / LOOKS)
    assert gateway.report.dispositions == expected(10, DELIVERED)


async def test_a_gateway_that_takes_nothing_for_long_is_left() -> None:
    gateway = Gateway()
    gateway.offer(10)
    gateway.stream.waiting = 10 * SIZE
    gateway.clock.advance(STALLED_AFTER - 1)
    assert not gateway.stream.aborted
    gateway.clock.advance(2)
    assert gateway.stream.aborted
    await gateway.settle()
    assert gateway.report.dispositions == expected(10, Disposition.AMBIGUOUS)
    assert gateway.report.ends == ["the gateway takes nothing more"]


@pytest.mark.parametrize(
    ("status", "disposition", "text"),
    [
        (0, Disposition.AMBIGUOUS, "No Errors"),
        (1, Disposition.TRANSIENT, "Processing Error"),
        (2, Disposition.PERMANENT, "Missing Device Token"),
        (3, Disposition.ROUTE_FAULT, "Missing Topic"),
        (4, Disposition.PERMANENT, "Missing Payload"),
        (5, Disposition.PERMANENT, "Invalid Token Size"),
        (6, Disposition.ROUTE_FAULT, "Invalid Topic Size"),
        (7, Disposition.PERMANENT, "Invalid Payload Size"),
        (8, Disposition.RECIPIENT_GONE, "Invalid Token"),
        (99, Disposition.TRANSIENT, "Unknown Status"),
        (128, Disposition.TRANSIENT, "Protocol Error"),
        (255, Disposition.TRANSIENT, "Unknown"),
    ],
)
async def test_an_error_packet_settles_the_window_in_one_report(
    status: int, disposition: Disposition, text: str
) -> None:
    gateway = Gateway()
    gateway.offer(10)
    gateway.tell(status, 4)
    assert gateway.report.batches == [10]
    assert gateway.report.dispositions == {
        **expected(3, DELIVERED),
        4: disposition,
        **expected(10, REFUSED, first=5),
    }
    named = dict(gateway.report.results)[4]
    assert (named.code, named.text, named.remote_id) == (str(status), text, "4")
    assert named.suspect is (status == Status.INVALID_TOKEN)
    assert [number for number, _ in gateway.report.results] == list(range(1, 11)), "in order"
    assert gateway.offer(1, first=11) == 0
    await gateway.settle()
    assert gateway.report.ends == [f"{status} {text}"]


@pytest.mark.parametrize(("status", "named", "waits"), [(1, 1, True), (255, 1, True), (1, 2, False), (8, 1, False)])
async def test_a_gateway_in_trouble_is_given_a_moment(status: int, named: int, waits: bool) -> None:
    gateway = Gateway()
    gateway.offer(3)
    gateway.tell(status, named)
    assert (gateway.report.results[-1][1].retry_after > 0) is waits


async def test_shutdown_names_the_last_one_that_was_taken() -> None:
    gateway = Gateway()
    gateway.offer(10)
    gateway.tell(Status.SHUTDOWN, 4)
    assert gateway.report.dispositions == {**expected(4, DELIVERED), **expected(10, REFUSED, first=5)}


async def test_shutdown_may_name_one_that_is_confirmed_already(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    gateway.offer(4)
    gateway.clock.advance(2 * TIMEOUT)
    gateway.offer(6, first=5)
    gateway.tell(Status.SHUTDOWN, 4)
    assert gateway.report.dispositions == {**expected(4, DELIVERED), **expected(10, REFUSED, first=5)}
    assert caplog.messages == []


async def test_an_error_that_comes_too_late_is_told_to_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    gateway.offer(4)
    gateway.clock.advance(2 * TIMEOUT)
    gateway.offer(6, first=5)
    gateway.tell(Status.INVALID_TOKEN, 3)
    assert gateway.report.dispositions == {**expected(4, DELIVERED), **expected(10, REFUSED, first=5)}
    assert "2 deliveries had been taken for delivered" in caplog.text
    assert "delivery_response_timeout" in caplog.text


@pytest.mark.parametrize("identifier", [0, 11, 2**32 - 1])
async def test_an_identifier_that_was_never_sent_leaves_the_window_in_doubt(identifier: int) -> None:
    gateway = Gateway()
    gateway.offer(10)
    gateway.tell(Status.INVALID_TOKEN, identifier)
    await gateway.settle()
    assert gateway.report.dispositions == expected(10, Disposition.AMBIGUOUS)
    (reason,) = gateway.report.ends
    assert f"8 Invalid Token for identifier {identifier}, which was never sent" in reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "closed by the gateway"),
        (b"\x08\x08\x00", "closed by the gateway in the middle of an error packet"),
        (b"HTTP", "protocol error: the gateway's answer begins with 72, and an error packet with 8"),
    ],
)
async def test_an_end_that_explains_nothing_leaves_the_window_in_doubt(said: bytes, reason: str) -> None:
    gateway = Gateway()
    gateway.offer(2)
    if said:
        gateway.connection.received(said)
    if not gateway.stream.aborted:
        gateway.connection.lost(None)
    await gateway.settle()
    assert gateway.report.dispositions == expected(2, Disposition.AMBIGUOUS)
    assert gateway.report.ends == [reason]
    text = dict(gateway.report.results)[1].text
    assert text == f"4.4.2 [internal] {reason} before the window was confirmed"


async def test_identifiers_wrap_and_are_found_behind_the_wrap() -> None:
    gateway = Gateway(first_identifier=2**32 - 3)
    gateway.offer(10)
    assert [frame.identifier for frame in gateway.stream.frames()] == [*range(2**32 - 3, 2**32), *range(7)]
    gateway.tell(Status.INVALID_TOKEN, 1)
    assert gateway.report.dispositions == {
        **expected(4, DELIVERED),
        5: Disposition.RECIPIENT_GONE,
        **expected(10, REFUSED, first=6),
    }


@pytest.mark.parametrize("token", ["abc", "ab" * 31, "ab" * 33, ""])
async def test_a_token_that_no_gateway_takes_is_not_sent(token: str) -> None:
    gateway = Gateway()
    assert gateway.connection.send([delivery(1), delivery(2, token=token or "ab"), delivery(3)]) == 3
    assert [frame.token[-1] for frame in gateway.stream.frames()] == [1, 3]
    ((number, outcome),) = gateway.report.results
    assert (number, outcome.disposition) == (2, Disposition.PERMANENT)
    assert (outcome.code, outcome.text) == ("5", "Invalid Token Size")


@pytest.mark.parametrize(
    ("headers", "priority", "expiration"),
    [
        ((), 10, int(RECEIVED + 3600)),
        ((("apns-priority", "5"),), 5, int(RECEIVED + 3600)),
        ((("apns-priority", "1"), ("apns-expiration", "0")), 5, 0),
        ((("apns-priority", "10"), ("apns-expiration", "1999999999")), 10, 1999999999),
        ((("apns-expiration", "9999999999"),), 10, 2**32 - 1),
        ((("apns-topic", "com.example.app"), ("apns-push-type", "alert")), 10, int(RECEIVED + 3600)),
    ],
)
async def test_a_frame_has_what_the_protocol_has_items_for(headers: Headers, priority: int, expiration: int) -> None:
    gateway = Gateway()
    gateway.connection.send([delivery(1, headers)])
    assert gateway.stream.frames() == [Notification(2, (1).to_bytes(32, "big"), PART.content, 1, expiration, priority)]


async def test_expiry_0_is_now_or_never() -> None:
    frame = FrameBuilder(0.0).frame(delivery(1), 1)
    assert frame is not None
    assert NotificationParser().receive(frame)[0].expiration == 0


async def test_a_close_waits_for_the_window_and_is_in_good_order() -> None:
    gateway = Gateway()
    gateway.offer(10)
    closing = asyncio.create_task(gateway.connection.aclose(60))
    await gateway.settle()
    assert gateway.offer(1, first=11) == 0
    assert not gateway.stream.closes
    gateway.clock.advance(2 * TIMEOUT)
    assert gateway.report.dispositions == expected(10, DELIVERED)
    assert len(gateway.stream.closes) == 1
    gateway.connection.lost(None)
    await closing
    assert gateway.report.ends == ["closed by us"]


async def test_a_close_waits_no_longer_than_it_may() -> None:
    gateway = Gateway()
    gateway.offer(10)
    await gateway.connection.aclose(0.01)
    assert gateway.stream.aborted
    assert gateway.report.dispositions == expected(10, Disposition.AMBIGUOUS)
    assert gateway.report.ends == ["closed by us"]


async def test_an_idle_connection_closes_at_once_and_a_peer_that_does_not_read_is_left() -> None:
    gateway = Gateway()
    closing = asyncio.create_task(gateway.connection.aclose(60))
    await gateway.settle()
    await gateway.settle()
    assert len(gateway.stream.closes) == 1
    gateway.clock.advance(CLOSE_TIMEOUT + 1)
    assert gateway.stream.aborted
    await closing


async def test_what_the_report_sends_from_within_a_wake_is_taken() -> None:
    gateway = Gateway(window=10)
    gateway.report.on_wake = lambda: gateway.offer(10, first=100 * gateway.report.wakes)
    gateway.offer(10)
    gateway.clock.advance(3 * TIMEOUT)
    assert gateway.report.batches[:2] == [10, 10]


async def test_waiting_for_silence_does_not_limit_the_rate_to_less_than_window_by_timeout() -> None:
    """A minute with never a moment when nothing waits to be sent."""
    gateway = Gateway(window=10_000)
    gateway.report.on_wake = lambda: gateway.offer(1000)
    gateway.report.outcomes = lambda batch: gateway.report.batches.append(len(batch))  # type: ignore[method-assign]
    gateway.stream.write = lambda data: None  # type: ignore[method-assign]  # a gigabyte
    while gateway.offer(1000):
        pass
    gateway.clock.advance(60)
    assert sum(gateway.report.batches) / 60 > 0.8 * 10_000 / TIMEOUT


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 30)),
        st.tuples(st.just("wait"), st.floats(0.01, 2 * TIMEOUT)),
        st.tuples(st.just("unsent"), st.integers(0, 20 * SIZE)),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(-5, 200), st.sampled_from([*Status, 99]), st.sampled_from([1, 2**32 - 20]))
def test_whatever_happened_before_an_error_each_delivery_has_one_outcome_and_what_is_behind_is_refused(
    played: list[tuple[str, Any]], offset: int, status: int, first: int
) -> None:
    async def play() -> None:
        gateway = Gateway(window=50, first_identifier=first)
        sent = 0
        for step, value in played:
            if step == "send":
                sent += gateway.offer(value, first=sent + 1)
            elif step == "wait":
                gateway.clock.advance(value)
            else:
                gateway.stream.waiting = min(value, len(gateway.stream.written))
        confirmed = len(gateway.report.results)
        gateway.tell(status, (first + offset) % 2**32)
        await gateway.settle()
        results = gateway.report.dispositions
        assert list(results) == list(range(1, sent + 1)), "each of them, in order"
        position = offset + 1  # of the named one, from 1
        if not 1 <= position <= sent:
            assert set(list(results.values())[confirmed:]) <= {Disposition.AMBIGUOUS}
            return
        shutdown = status == Status.SHUTDOWN
        for number, disposition in results.items():
            if number <= confirmed or number < position or (shutdown and number == position):
                assert disposition is DELIVERED
            elif number > position:
                assert disposition is REFUSED

    asyncio.run(play())


def test_a_packet_cut_in_two_is_one_packet() -> None:
    async def play() -> None:
        gateway = Gateway()
        gateway.offer(3)
        packet = struct.pack(">BBI", 8, 8, 2)
        gateway.connection.received(packet[:2])
        assert gateway.report.results == []
        gateway.connection.received(packet[2:])
        assert gateway.report.dispositions == {1: DELIVERED, 2: Disposition.RECIPIENT_GONE, 3: REFUSED}

    asyncio.run(play())


async def test_who_watches_sees_frames_and_the_error_packet() -> None:
    gateway, watcher = Gateway(), Watcher(bodies=True)
    gateway.report.trace = watcher.trace()
    gateway.offer(2)
    gateway.tell(8, 2)
    await gateway.settle()
    first, second, packet = watcher.lines()
    assert (first.way, first.what, first.protocol) == ("sent", "command 2", "binary")
    assert dict(first.fields)["token"] == "0000...0001"
    assert dict(second.fields)["identifier"] == "2"
    assert first.body == PART.content.decode()
    assert (packet.way, packet.what, packet.text) == ("received", "error packet", "8 Invalid Token")
