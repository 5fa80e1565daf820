"""The settings of one XMPP component, as values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

EVERYONE = "*"
"""Among ``servers``: every one."""


class XmppSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One connection to an XMPP server as its component (XEP-0114), which is an app server for push (XEP-0357)."""

    host: str
    port: int
    jid: str
    """The component's, lower case."""
    secret: str
    """What the XMPP server knows it by."""
    domain: str
    """What is pushed to."""
    apps: Mapping[str, str] = {}
    """The domain of each app that a publish-option names."""
    servers: frozenset[str] = frozenset()
    """Whose users are served, lower case."""
    alert_title: str = ""
    alert_body: str = "New message"
    badge: bool = False
    """Show how many messages wait, where the server says it."""
    sound: str = "default"
    """Empty: none."""
    mutable_content: bool = False
    """Let the app's extension change what is shown."""
    return_path: str = ""
    """Who hears of failures; empty: nobody."""
    max_stanza_size: int = 256 * 1024

    @property
    def place(self) -> str:
        """Where the XMPP server is."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def serves(self, server: str) -> bool:
        """Whether users of *server* are served."""
        return server in self.servers or EVERYONE in self.servers
