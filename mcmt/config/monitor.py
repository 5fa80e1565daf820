"""``monitor``, read into MonitorSettings."""

from __future__ import annotations

from mcmt.config.faults import Checker
from mcmt.config.listeners import parse_address
from mcmt.config.schema import MonitorStanza
from mcmt.config.settings import MonitorSettings

MONITOR = "monitor"


def read_monitor(checker: Checker) -> MonitorSettings:
    """What the stanza says; what is wrong is noted in *checker*."""
    stanza, _ = checker.stanza(MonitorStanza, (MONITOR,), checker.data.get(MONITOR))
    if stanza is None:
        return MonitorSettings()
    values = dict(stanza)
    try:
        values["listen"] = None if stanza.listen is None else parse_address(stanza.listen)
    except ValueError as error:
        checker.fault((MONITOR, "listen"), str(error))
        return MonitorSettings()
    return MonitorSettings(**values)
