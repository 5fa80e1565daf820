"""The lines written of every outcome: formats, files, loggers."""
