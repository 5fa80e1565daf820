"""The HTTP API: messages in, one or many a request, and what became of them.

Nothing here is imported unless the configuration has ``http_listener``: the server is aiohttp, which is an extra.
"""

from __future__ import annotations

NEEDS_AIOHTTP = "http_listener needs aiohttp: pip install 'mcmt[http]'"
