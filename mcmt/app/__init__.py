"""The composition root: the one place that knows every part, and puts them together.

``single.py`` is the engine in one process, ``supervisor.py`` and ``worker.py`` are the engine in several; ``shards.py``
is what both have, and ``serve.py`` runs either until it is told to stop, ``run_as.py`` as whom.
"""

from mcmt.app.compose import compose
from mcmt.app.leaving import leave
from mcmt.app.parts import load_channels, load_settings
from mcmt.app.run_as import become, bind_as_root, wanted
from mcmt.app.serve import serve
from mcmt.app.single import App
from mcmt.intake.sockets import bind_all

__all__ = [
    "App",
    "become",
    "bind_all",
    "bind_as_root",
    "compose",
    "leave",
    "load_channels",
    "load_settings",
    "serve",
    "wanted",
]
