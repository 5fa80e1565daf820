"""A row of the table: one fault, what must come of it, and the line of code without which something else would."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mcmt.message.event import Event
from mcmt.wire.frames import ErrorCode
from tests.faults.frames import Script
from tests.faults.proxy import Fault
from tests.faults.refusal import Refusal

if TYPE_CHECKING:
    from tests.faults.stage import Stage

MB = 1024**2
PUSH = b'{"aps":{"alert":"You have mail","badge":9,"sound":"dingdong.aiff"},"app-key":"bar"}'
CONNECT_GAP = 0.9
"""Seconds between two tries to connect, at least, while nothing is answered: RouteHealth's first delay is 1."""


class Wrapped(NamedTuple):
    """A replacement that is made of what it replaces."""

    make: Callable[[Any], Any]


class Defence(NamedTuple):
    """What keeps the row's promise, and how to do without it."""

    line: str
    """Where it stands, and what it is."""
    out: Mapping[str, Any]
    """What is put in its place: ``module.attribute`` (``apn.`` is the channel), ``settings.x`` or ``options.x``."""

    def take_out(self, channel: str, settings: dict[str, Any], options: dict[str, Any]) -> None:
        """Do so, in this process, for good."""
        for target, value in self.out.items():
            head, _, rest = target.partition(".")
            if head in ("settings", "options"):
                (settings if head == "settings" else options)[rest] = value
                continue
            if head == "apn":
                target = f"{channel}.{rest}"
            owner, name = _resolve(target)
            original = getattr(owner, name)
            setattr(owner, name, value.make(original) if isinstance(value, Wrapped) else value)


def _resolve(target: str) -> tuple[Any, str]:
    *path, name = target.split(".")
    for end in range(len(path), 0, -1):
        module = ".".join(path[:end])
        try:
            owner: Any = sys.modules.get(module) or importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for each in path[end:]:
            owner = getattr(owner, each)
        return owner, name
    raise ModuleNotFoundError(target)


class Tally:
    """Events of one kind: how many, and the first thousand, so that a long row's memory is not the test's own."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[Event] = []

    def append(self, event: Event) -> None:
        self._count += 1
        if self._count <= 1_000:
            self._first.append(event)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Event]:
        return iter(self._first)

    def __getitem__(self, part: slice) -> list[Event]:
        return self._first[part]


@dataclass
class Seen:
    """What a run of a row came to, at the faulty route."""

    ids: list[str]
    """The apns-id of each delivery."""
    delivered: Counter[str]
    tried: list[Event]
    failed: Tally
    news: list[Event]
    left: int
    attempts: int
    """The most that any delivery left in the spool has."""
    next_due: float
    """Seconds until the last of them is due again."""
    received: Counter[str]
    """By the gateway's own count: requests that came whole."""
    answered: Counter[str]
    """And those that it answered with 200."""
    connects: int
    """Tries to connect, by the engine's count."""
    accepted: list[float]
    """When the gateway accepted a connection, each time."""
    elapsed: float
    stage: Stage


class Expectation(NamedTuple):
    """Something that must come of a row."""

    words: str
    """For docs/security.md; empty where it goes without saying."""
    check: Callable[[Seen], None]
    """Raises AssertionError."""


def said(words: str) -> Callable[[Callable[[Seen], None]], Expectation]:
    """Makes an expectation of a check."""
    return lambda check: Expectation(words, check)


def expect(condition: object, text: str) -> None:
    """An assert that says what was expected, also outside pytest."""
    if not condition:
        raise AssertionError(text)


def _news_of(seen: Seen) -> str:
    return "; ".join(f"{event.phase}: {event.text[:200]}" for event in seen.news)


def _quoted(text: str) -> str:
    return f" (`{text}`)" if text else ""


def _goodbye_words(codes: Sequence[int]) -> str:
    names = dict.fromkeys(ErrorCode(code).name for code in codes)
    return f"left with {', '.join(names)}" if names else ""


# -- what may be expected ---------------------------------------------------------------------------------------------


@said("delivered once")
def delivered_once(seen: Seen) -> None:
    """Each delivery was delivered, logged once and answered by the gateway once; nothing counted as an attempt."""
    expect(
        seen.delivered == Counter(seen.ids),
        f"{len(seen.delivered)} of {len(seen.ids)} have their line, {_news_of(seen)}",
    )
    expect(not seen.tried, f"{len(seen.tried)} attempts: {seen.tried[:1]}")
    expect(not seen.failed, f"{len(seen.failed)} failures: {seen.failed[:1]}")
    expect(seen.answered == Counter(seen.ids), f"answers by the gateway's count: {Counter(seen.answered.values())}")


def in_doubt(text: str, code: str = "451") -> Expectation:
    """All were delivered; what had no answer was tried again and has a line that says so, and nothing else was."""

    def check(seen: Seen) -> None:
        expect(
            seen.delivered == Counter(seen.ids),
            f"{len(seen.delivered)} of {len(seen.ids)} have their line, {_news_of(seen)}",
        )
        expect(not seen.failed, f"{len(seen.failed)} failures: {seen.failed[:1]}")
        expect(seen.tried, "nothing was in doubt")
        expect({event.code for event in seen.tried} == {code}, f"codes {Counter(event.code for event in seen.tried)}")
        words = Counter(event.text for event in seen.tried)
        expect(any(text in said for said in words), f"{text!r} is not what was said: {words}")
        twice = {apns_id for apns_id, count in seen.answered.items() if count > 1}
        expect(set(seen.answered) == set(seen.ids), f"the gateway answered {len(seen.answered)} of {len(seen.ids)}")
        expect(twice <= {event.remote_id for event in seen.tried}, "some were sent twice without a line that says so")

    return Expectation(f"in doubt: `{text}`", check)


def kept(phase: str, text: str = "") -> Expectation:
    """Nothing was delivered and nothing failed: all of it is in the spool, untried; the route's news say why."""

    def check(seen: Seen) -> None:
        expect(not seen.delivered, f"{len(seen.delivered)} delivered")
        expect(not seen.tried, f"{len(seen.tried)} attempts: {seen.tried[:1]}")
        expect(not seen.failed, f"{len(seen.failed)} failures: {seen.failed[:1]}")
        expect(seen.left == len(seen.ids), f"{seen.left} of {len(seen.ids)} left")
        expect(seen.attempts == 0, f"{seen.attempts} attempts counted")
        told(phase, text).check(seen)

    return Expectation(f"kept; {phase}{_quoted(text)}", check)


def told(phase: str, text: str) -> Expectation:
    """The route's news have it."""

    def check(seen: Seen) -> None:
        expect(
            any(event.phase == phase and text in event.text for event in seen.news),
            f"not told that it is {phase}, {text!r}: {_news_of(seen)}",
        )

    return Expectation(f"{phase}{_quoted(text)}" if text or phase != "up" else "", check)


def not_told(phase: str) -> Expectation:
    """The route's news do not have it."""

    def check(seen: Seen) -> None:
        expect(all(event.phase != phase for event in seen.news), _news_of(seen))

    return Expectation("", check)


@said("back-off")
def backs_off(seen: Seen) -> None:
    """Nothing hot: tries to connect are a back-off apart."""
    gaps = [after - before for before, after in zip(seen.accepted, seen.accepted[1:], strict=False)]
    expect(all(gap >= CONNECT_GAP for gap in gaps), f"connections came {min(gaps, default=0):.3f} s apart")
    bound = 2 + seen.elapsed / CONNECT_GAP
    expect(seen.connects <= bound, f"{seen.connects} tries to connect in {seen.elapsed:.1f} s")


def connections(most: int, least: int = 1) -> Expectation:
    """How many connections were had."""

    def check(seen: Seen) -> None:
        expect(least <= len(seen.accepted) <= most, f"{len(seen.accepted)} connections, not {least} to {most}")

    return Expectation("", check)


def requests(most: int) -> Expectation:
    """How many requests the gateway saw."""

    def check(seen: Seen) -> None:
        total = sum(seen.received.values())
        expect(total <= most, f"{total} requests for {len(seen.ids)} deliveries, not {most} at most")

    return Expectation("back-off", check)


def goodbye(*codes: int) -> Expectation:
    """The engine told the gateway what was wrong (RFC 9113 section 7)."""

    def check(seen: Seen) -> None:
        said = seen.stage.gateway.goodbyes
        expect(tuple(code for code in said if code) == codes, f"GOAWAY with codes {said}, not {codes}")

    return Expectation(_goodbye_words(codes), check)


def failed_all(code: str) -> Expectation:
    """Each failed for good, once, with the gateway's code."""

    def check(seen: Seen) -> None:
        expect(len(seen.failed) == len(seen.ids), f"{len(seen.failed)} of {len(seen.ids)} failed, {_news_of(seen)}")
        expect({event.code for event in seen.failed} == {code}, f"codes {Counter(e.code for e in seen.failed)}")
        expect(not seen.tried, f"{len(seen.tried)} attempts: {seen.tried[:1]}")

    return Expectation(f"failed once, {code}", check)


# -- how long a row is watched ----------------------------------------------------------------------------------------


async def all_final(stage: Stage) -> None:
    """Until each delivery has its final line."""
    await stage.until(lambda: sum(stage.delivered.values()) + len(stage.failed) >= len(stage.ids))


def for_seconds(seconds: float) -> Callable[[Stage], Awaitable[None]]:
    """For that long, whatever happens."""

    async def wait(stage: Stage) -> None:
        await stage.sleep(seconds)

    return wait


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault."""

    name: str
    """As docs/security.md has it."""
    fault: Script | Fault | type[Refusal] | None
    """A script is followed by a gateway of our own; a Fault is the proxy's, in front of nginx; Refusal: TLS
    ends with an alert; None: nobody listens."""
    defence: Defence
    expect: Sequence[Expectation]
    until: Callable[[Stage], Awaitable[None]] = all_final
    within: float = 10.0
    """Seconds that it may take."""
    without: float = 3.0
    """Seconds after which it is over without its defence: longer than it takes with it."""
    count: int = 200
    content: bytes = PUSH
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Stage], None] = lambda stage: None
    """Before anything runs: what is particular to the row."""
    growth: int = 16 * MB
    """Bytes that the process may grow by, the gateway's side of the row included."""
    long: bool = False
    """Only for ``make faults``."""
