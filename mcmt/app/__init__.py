"""The composition root: the one place that knows every part, and puts them together.

``single.py`` is the engine in one process, ``supervisor.py`` and ``worker.py`` are the engine in several; ``shards.py``
is what both have, and ``serve.py`` runs either until it is told to stop.
"""

from mcmt.app.compose import compose
from mcmt.app.parts import load_channels, load_settings
from mcmt.app.serve import serve
from mcmt.app.single import App

__all__ = ["App", "compose", "load_channels", "load_settings", "serve"]
