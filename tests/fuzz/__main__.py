"""``python -m tests.fuzz TARGET [SECONDS [MORE...]]``: one target under coverage guidance, by atheris (libFuzzer).

What it finds worth keeping goes into .fuzz/TARGET; an input that fails is kept there as crash-*, and
``python -m tests.fuzz TARGET FILE`` runs that one alone. MORE are libFuzzer's own switches.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOUND = Path(".fuzz")
TARGETS = tuple(sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py")))
_SLOW = 10
"""Seconds that one input may take: more is a finding."""
_MEMORY = 1024
"""Megabytes that the process may have: more is a finding."""


def main(arguments: list[str]) -> None:
    """Fuzz until the time is over, or something is found (then the exit code is not 0)."""
    import atheris

    name, *more = arguments
    if name not in TARGETS:
        sys.exit(f"there is no target {name}; there are: {', '.join(TARGETS)}")
    seconds = int(more.pop(0)) if more and more[0].isdigit() else 60
    # What counts as new ground has to be said before it is imported.
    with atheris.instrument_imports(include=["mcmt", "channels"]):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    switches = [f"-max_len={target.LONGEST}", f"-timeout={_SLOW}", f"-rss_limit_mb={_MEMORY}"]
    if (dictionary := HERE / "dictionaries" / name).exists():
        switches.append(f"-dict={dictionary}")
    if more and Path(more[0]).is_file():
        places = []
    else:
        switches += [f"-max_total_time={seconds}", f"-artifact_prefix={found}/"]
        places = [str(found), str(HERE / "corpus" / name)]
    atheris.Setup([sys.argv[0], *switches, *more, *places], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
