"""mcmt: a mail transfer agent whose last hop need not be mail."""

__version__ = "0.1.0"
