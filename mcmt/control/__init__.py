"""The control socket: how commands speak to a running engine."""
