"""Events sent to URLs as they happen: batches over HTTP, signed, from disk, at least once."""
