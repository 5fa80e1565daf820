"""Every row, by its name."""

from __future__ import annotations

from tests.faults import credentials, floods, network, streams

ROWS = {row.name: row for row in (*network.ROWS, *streams.ROWS, *floods.ROWS, *credentials.ROWS)}
