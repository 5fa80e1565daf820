"""Every row, by its name."""

from __future__ import annotations

from tests.faults import credentials, floods, goaways, network, responses, silence, streams

SECTIONS = {
    "The network, and the gateway's host": network.ROWS,
    "Answers that do not come, or late": silence.ROWS,
    "GOAWAY": goaways.ROWS,
    "RST_STREAM, SETTINGS, windows": streams.ROWS,
    "Interim responses and trailers": responses.ROWS,
    "Floods, bombs, malformed frames": floods.ROWS,
    "Certificates, provider tokens, clocks": credentials.ROWS,
}
ROWS = {row.name: row for rows in SECTIONS.values() for row in rows}
