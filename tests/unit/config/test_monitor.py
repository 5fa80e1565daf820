"""Where metrics are served, and when alerts are due."""

from __future__ import annotations

import pytest

from mcmt.config.settings import MonitorSettings
from tests.unit.config.support import DOMAIN, LISTENER, SPOOL, Configuration

REST = SPOOL + LISTENER + DOMAIN


def test_without_the_stanza_nobody_listens(configuration: Configuration) -> None:
    assert configuration.load(REST).settings.monitor == MonitorSettings()
    assert configuration.load(f"{REST}monitor:\n").settings.monitor.listen is None


@pytest.mark.parametrize(
    ("text", "address"), [("127.0.0.1:9125", ("127.0.0.1", 9125)), ("[::1]:9", ("::1", 9)), (":9125", (None, 9125))]
)
def test_an_address(configuration: Configuration, text: str, address: tuple[str | None, int]) -> None:
    loaded = configuration.load(f'{REST}monitor: {{listen: "{text}", alert_oldest: 2h, alert_suspended: 0}}\n')
    assert loaded.settings.monitor == MonitorSettings(listen=address, alert_oldest=7200.0, alert_suspended=0.0)


@pytest.mark.parametrize("text", ["9125", '"localhost"', '"127.0.0.1:99999"', '"300.0.0.1:9125"', "[1]"])
def test_what_is_no_address_is_a_fault_with_its_place(configuration: Configuration, text: str) -> None:
    assert "mcmt.yaml:4:19: monitor.listen: " in configuration.fault(f"{REST}monitor: {{listen: {text}}}\n")


def test_counting_no_domain_at_all_is_a_fault(configuration: Configuration) -> None:
    assert "monitor.max_metric_domains" in configuration.fault(f"{REST}monitor: {{max_metric_domains: 0}}\n")
