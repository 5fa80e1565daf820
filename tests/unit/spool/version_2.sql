CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL UNIQUE,
    row INTEGER NOT NULL,           -- of its first delivery
    deliveries INTEGER NOT NULL,    -- accepted with it
    pending INTEGER NOT NULL,       -- not finished; kept up to date only where there was more than one
    parts INTEGER NOT NULL,
    sender TEXT NOT NULL,           -- JSON: what every delivery needs
    envelope BLOB NOT NULL          -- msgpack: what only a report needs
) STRICT;
CREATE TABLE part (
    id INTEGER PRIMARY KEY,         -- message.id + n
    head TEXT NOT NULL,             -- JSON: media type, headers
    content BLOB NOT NULL
) STRICT;
CREATE TABLE delivery (
    row INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    domain TEXT NOT NULL,
    due INTEGER NOT NULL,           -- microseconds since the epoch; 0: never tried
    expires INTEGER NOT NULL,       -- microseconds since the epoch
    attempts INTEGER NOT NULL,
    data TEXT NOT NULL,             -- JSON: number, part, recipient, token, size, expires
    last TEXT NOT NULL
) STRICT;
CREATE INDEX delivery_due ON delivery (domain, due);
CREATE INDEX delivery_expires ON delivery (expires);
-- AUTOINCREMENT: a sequence is never used twice, also when the outbox was emptied in between.
CREATE TABLE outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, events BLOB NOT NULL) STRICT;
CREATE TABLE position (logger TEXT PRIMARY KEY, inode INTEGER NOT NULL, offset INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    source TEXT NOT NULL,           -- the table that the row stood in
    key INTEGER NOT NULL,
    reason TEXT NOT NULL,
    statement BLOB NOT NULL         -- the INSERT that puts it back, byte for byte
) STRICT;
-- AUTOINCREMENT: the failures of a report in quarantine must not be taken for another one's.
CREATE TABLE report (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER NOT NULL,
    return_path TEXT NOT NULL,
    due INTEGER NOT NULL,           -- microseconds since the epoch; 0: nothing of its message is pending
    UNIQUE (message, return_path)
) STRICT;
CREATE INDEX report_due ON report (due);
CREATE TABLE failure (
    id INTEGER PRIMARY KEY,         -- grows
    report INTEGER NOT NULL,
    due INTEGER NOT NULL,           -- when it is to be told at the latest
    data TEXT NOT NULL,             -- JSON: mcmt.message.failure.Failure
    last TEXT NOT NULL              -- the answer before, taken over from the delivery
) STRICT;
CREATE INDEX failure_report ON failure (report);
