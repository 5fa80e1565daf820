"""The channel's notification log: Momentum's stanza, file and formats, so that its readers keep working."""

from __future__ import annotations

from mcmt.channel.port import LoggerDefaults

LOGGER = LoggerDefaults(
    stanza="apn_logger",
    logfile="../logs/apnlog.ec",
    delivery='%t@D@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti',
    tempfail='%t@T@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti@%S@%e',
    permfail="%t@P@%i@%sa@%da@%d@%g@%b@%H@%S@%e",
    heartbeat="%t@M",
)
