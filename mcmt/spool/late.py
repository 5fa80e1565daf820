"""The deliveries that are late, of those whose senders want to hear of it (mcmt/spool/schema.py, delay)."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from mcmt.message.model import Delivery, Part
from mcmt.spool.fetch import UNREADABLE
from mcmt.spool.rows import Data, PartHead, SenderData, microseconds

_DUE = """
SELECT delay.row, delivery.domain, delivery.attempts, CAST(delivery.data AS BLOB), message.id,
    CAST(message.sender AS BLOB)
FROM delay LEFT JOIN delivery ON delivery.row = delay.row LEFT JOIN message ON message.id = delivery.message
WHERE delay.due <= ?1 ORDER BY delay.due LIMIT ?2
"""
_HEAD = "SELECT CAST(head AS BLOB) FROM part WHERE id = ?"
_decode_data = msgspec.json.Decoder(Data).decode
_decode_sender = msgspec.json.Decoder(SenderData).decode
_decode_head = msgspec.json.Decoder(PartHead).decode


class Late:
    """The query, on one connection. Few senders ask, so it goes row by row."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def due(self, now: float, limit: int) -> dict[int, Delivery | None]:
        """See Spool.pull_late."""
        rows: list[Any] = self._connection.execute(_DUE, (microseconds(now), limit)).fetchall()
        return {row[0]: self._read(*row) for row in rows}

    def _read(
        self, row: int, domain: str | None, attempts: int, data: bytes, message: int | None, sender: bytes
    ) -> Delivery | None:
        if domain is None or message is None:
            return None
        try:
            stored, head = _decode_data(data), None
            for (text,) in self._connection.execute(_HEAD, (message + stored.part,)):
                head = _decode_head(text)
            if head is None:
                return None
            return Delivery(
                row,
                stored.number,
                domain,
                stored.recipient,
                stored.token,
                attempts,
                stored.expires,
                _decode_sender(sender).sender(),
                Part(head.media_type, head.headers, b""),
                asked=stored.asked,
            )
        except UNREADABLE:
            # The pull that meets it tells of it.
            return None
