"""How long the content of a message may take: ``data_timeout`` and ``min_data_rate``. Pure."""

from __future__ import annotations

from mcmt.config.settings import ListenSettings
from mcmt.intake import limits


def content_deadline(listen: ListenSettings, began: float, octets: int) -> tuple[float, str]:
    """When the client's time is over whose content began at *began* and brought *octets* until now, and why.

    Every octet earns the time that it may take, so single octets now and then earn next to nothing, and a burst earns
    no more than ``data_timeout``.
    """
    whole = began + listen.data_timeout
    if listen.min_data_rate:
        earned = began + limits.DATA_GRACE + octets / listen.min_data_rate
        if earned < whole:
            return earned, f"the message comes slower than {listen.min_data_rate} octets a second (min_data_rate)"
    return whole, f"the message did not end within {listen.data_timeout:g} seconds (data_timeout)"
