"""Protocols without I/O: bytes in, events out; spoken by channels and by the simulator."""
