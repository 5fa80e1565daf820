"""The door for XMPP servers: a component (XEP-0114) that is an app server for push (XEP-0357).

stream: the connection, which is slixmpp's; component: when it is made, and made again; service: what a stanza is
answered; stanza, commands, notification: what is read and written, pure. Nothing of slixmpp is imported unless the
configuration has ``xmpp_component``: it is an extra.
"""

from __future__ import annotations

NEEDS_SLIXMPP = "xmpp_component needs slixmpp: pip install 'mcmt[xmpp]'"
