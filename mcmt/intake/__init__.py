"""The doors through which messages enter."""
