"""``python -m tests.crash``: the kills, as many as one likes. Exits with 1 when anything was lost or stands twice."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.crash.disk import build_shim
from tests.crash.gateway import gateway
from tests.crash.kills import run, stage_for_kills
from tests.support.tls import make_certificates
from tests.support.webhook_receiver import receiver


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(prog="tests.crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="kills; about 2 seconds each")
    parser.add_argument("--seed", type=int, help="of the moments and the victims; default: any")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory(prefix="mcmt-crash-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "certificates").mkdir()
        certificates = make_certificates(folder / "certificates")
        with gateway(folder / "gateway", certificates) as peer, receiver() as hook:
            stage = stage_for_kills(folder / "engine", peer, build_shim(folder), hook)
            result = run(
                stage, peer, hook, arguments.rounds, seed, lambda text: print(text, file=sys.stderr, flush=True)
            )
    print(result)
    return 0 if not (result.lost or result.faults) and result.audit.startswith("proven: ") else 1


if __name__ == "__main__":
    sys.exit(main())
