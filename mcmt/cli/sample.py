"""The sample message that the README shows and ``mcmt demo`` sends: the one copy of it in the code."""

from __future__ import annotations

SENDER = "app@example.com"
RECIPIENT = "push@apn.example.com"
DOMAIN = "apn.example.com"
TOPIC = "com.example.app"
TOKEN = "9b1f4c2e7a6d83059e1b4f7c2a6d8305f1e2d3c4b5a697887766554433221100"  # noqa: S105 - of no device
DEAD_TOKEN = "dead410000".ljust(64, "0")
"""To the simulator: a device that is gone, 410 Unregistered, always (docs/simulator.md)."""

MESSAGE = """\
From: app@example.com
To: push@apn.example.com
Subject: You have mail
MIME-Version: 1.0
Content-Type: multipart/vnd.msys.mcmt; boundary=MCMT_BOUNDARY

--MCMT_BOUNDARY
Content-Type: message/rfc822

From: app@example.com
Subject: You have mail

You have mail.
--MCMT_BOUNDARY
Content-Type: message/vnd.msys.apn

X-Device-Token: 9b1f4c2e7a6d83059e1b4f7c2a6d8305f1e2d3c4b5a697887766554433221100

{
  "aps": {
    "alert": "You have mail",
    "badge": 9,
    "sound": "dingdong.aiff"
  },
  "app-key": "bar"
}
--MCMT_BOUNDARY--
"""
"""As it is shown; on the wire its lines end in CR LF."""
