"""The settings of what jobs are fetched from: a part of settings.py, through which the rest of the code knows them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class BeanstalkdSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One beanstalkd that jobs are taken from."""

    address: str
    """As it stands in the file."""
    host: str
    port: int
    tubes: Mapping[str, str]
    """The domain of each tube that is taken from; a tube's name is its jobs' topic."""
    return_path: str = ""
    """Who hears of failures; empty: nobody."""
    max_message_size: int = 64 * 1024
    """Of a job's body."""
