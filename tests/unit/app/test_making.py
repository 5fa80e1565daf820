"""A domain made while the engine runs: by what it runs by, for good, and all or nothing."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from mcmt.app.making import LettingGo, Making, remove_leftovers
from mcmt.app.parts import load_channels, load_settings
from mcmt.app.reloading import Reloading
from mcmt.config.load import Loaded
from mcmt.config.made_settings import MadeDomain
from mcmt.config.settings import Settings
from mcmt.errors import ControlError, MessageError, SpoolUnusable
from tests.support.push_certificate import push_certificate
from tests.unit.config.support import LISTENER, SPOOL

SUFFIX = "apps.example.com"
CHANNELS = load_channels()
CONFIGURATION = f"""{SPOOL}{LISTENER}
pyapns: {{listen: {{"127.0.0.1:7077": {{make_domains: {{suffix: {SUFFIX}, most: 2, domain_group: made}}}}}}}}
domain_group: {{made: {{max_retries: 3}}}}
ec_logger: {{ec_logger1: {{mainlog: main.ec}}}}
"""


class Engine:
    """What goes on by settings, or cannot."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "mcmt.yaml"
        self.file.write_text(CONFIGURATION)
        self.folder = folder / "spool" / "pyapns"
        self.failure: Exception | None = None
        self.swaps = 0
        self.begin()

    def begin(self) -> None:
        """As after a restart."""
        loaded = load_settings(self.file, CHANNELS)
        self.settings = loaded.settings
        self.reloading = Reloading(CHANNELS, loaded.content)

    async def swap(self, _loaded: Loaded, settings: Settings, _check: bool) -> None:
        if self.failure is not None:
            raise self.failure
        self.swaps += 1
        self.settings = settings

    async def make(self, app_id: str = "myapp", pem: str = "", topic: str = "com.example.app") -> MadeDomain:
        pem = pem or push_certificate(topic)
        digest = hashlib.sha256(pem.encode()).hexdigest()
        made = MadeDomain(
            app_id=app_id, environment="sandbox", suffix=SUFFIX, topic=topic, certificate=digest, expires=2e9
        )
        await self.reloading.alter(lambda: self.settings, self.swap, Making(made, pem.encode(), CHANNELS))
        return made

    async def let_go_of(self, domain: str) -> None:
        await self.reloading.alter(lambda: self.settings, self.swap, LettingGo(domain))

    @property
    def files(self) -> list[str]:
        return sorted(entry.name for entry in self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


async def test_the_engine_goes_on_by_it_and_begins_with_it(engine: Engine) -> None:
    made = await engine.make()
    assert engine.settings.made == {made.domain: made}
    assert engine.settings.domains[made.domain].max_retries == 3
    assert {path.stat().st_mode & 0o777 for path in engine.folder.iterdir()} == {0o600}
    assert engine.folder.stat().st_mode & 0o777 == 0o700
    engine.begin()
    assert engine.settings.made == {made.domain: made}


async def test_a_half_edited_configuration_on_disk_is_not_what_it_goes_on_by(engine: Engine) -> None:
    engine.file.write_text("workers: {")
    first = await engine.make("first")
    second = await engine.make("second")
    assert engine.settings.made.keys() == {first.domain, second.domain}
    assert engine.settings.workers == 1


async def test_what_is_there_already_changes_nothing(engine: Engine) -> None:
    pem = push_certificate()
    await asyncio.gather(*(engine.make(pem=pem) for _ in range(3)))
    assert engine.swaps == 1


async def test_another_certificate_takes_its_place_and_the_last_one_stays_on_disk(engine: Engine) -> None:
    first, second, third = [await engine.make(topic=f"com.example.{number}") for number in range(3)]
    assert engine.settings.domains[third.domain].options.apn_topic == "com.example.2"
    assert engine.files == sorted([third.record, second.pem, third.pem])
    assert first.pem not in engine.files


async def test_no_more_are_made_than_the_stanza_says(engine: Engine) -> None:
    await engine.make("first")
    await engine.make("second")
    before = engine.files
    with pytest.raises(MessageError, match="2 domains below"):
        await engine.make("third")
    await engine.make("second", topic="com.example.renewed")
    assert len(engine.files) == len(before) + 1
    assert len(engine.settings.made) == 2


@pytest.mark.parametrize("failure", [ControlError("worker 1 is being started"), SpoolUnusable("no space left")])
async def test_what_the_engine_cannot_go_on_by_leaves_all_as_it_was(engine: Engine, failure: Exception) -> None:
    kept = await engine.make("kept")
    before, settings = engine.files, engine.settings
    engine.failure = failure
    for app_id in ("kept", "new"):
        with pytest.raises(type(failure)):
            await engine.make(app_id, topic="com.example.other")
    with pytest.raises(type(failure)):
        await engine.let_go_of(kept.domain)
    assert (engine.files, engine.settings) == (before, settings)
    engine.begin()
    assert engine.settings.made == {kept.domain: kept}


async def test_what_an_engine_could_not_begin_with_is_refused(engine: Engine) -> None:
    with pytest.raises(MessageError, match="tls_certificate"):
        await engine.make(pem=push_certificate(other_key=True))
    assert engine.files == []
    engine.begin()


async def test_a_domain_that_the_operator_has_is_left_alone(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    name = f"myapp.sandbox.{SUFFIX}"
    engine.file.write_text(
        f'{CONFIGURATION}domain: {{{name}: {{delivery_method: discard, routes: ["discard://sink"]}}}}\n'
    )
    engine.begin()
    with pytest.raises(MessageError, match="a stanza of its own"):
        await engine.make()
    assert engine.files == []


async def test_a_domain_that_is_let_go_of_is_gone_with_its_key(engine: Engine) -> None:
    made = await engine.make()
    other = await engine.make("other")
    await engine.let_go_of(made.domain)
    assert engine.settings.made.keys() == {other.domain}
    assert engine.files == sorted([other.record, other.pem])
    engine.begin()
    assert engine.settings.made.keys() == {other.domain}
    with pytest.raises(ControlError, match="was not made for an app"):
        await engine.let_go_of(made.domain)
    assert (await engine.make()).domain in engine.settings.made


async def test_what_a_crash_left_is_removed_at_the_start_and_nothing_else(engine: Engine) -> None:
    made = await engine.make()
    before = engine.files
    for name in (f".{made.record}.part", f".{made.pem}.part", f"other.sandbox.{SUFFIX}-{'0' * 16}.pem"):
        (engine.folder / name).write_text("x")
    remove_leftovers(engine.folder.parent)
    assert engine.files == before


async def test_a_crash_before_its_record_leaves_nothing_that_counts(engine: Engine) -> None:
    """What a crash leaves of a file that was being written is no record, and is written over the next time."""
    made = await engine.make()
    record = engine.folder / made.record
    record.rename(engine.folder / f".{made.record}.part")
    engine.begin()
    assert engine.settings.made == {}
    await engine.make()
    engine.begin()
    assert engine.settings.made.keys() == {made.domain}
