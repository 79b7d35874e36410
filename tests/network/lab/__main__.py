"""`python -m tests.network.lab`: one scenario, one line of result, exit code 0 when all held."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.network.lab import scenario
from tests.support import ROOT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.network.lab", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--nodes", type=int, default=0, help="default: 5 to 7, as the seed says")
    parser.add_argument("--seconds", type=float, default=15.0, help="of faults")
    parser.add_argument("--keep", action="store_true", help="keep the nodes' folders, and say where")
    parser.add_argument(
        "--loopback", action="store_true", help="no namespaces: kills, pauses and clocks only"
    )
    options = parser.parse_args()
    _become_root_of_nothing()
    nodes = options.nodes or random.Random(f"nodes {options.seed}").randint(5, 7)
    (ROOT / "build").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"lab-{options.seed}-", dir=ROOT / "build"))
    os.environ["DECENTRASPACE_HOME"] = str(folder / "home")
    (folder / "home").mkdir(mode=0o700)
    report = scenario.run(options.seed, nodes, options.seconds, folder, loopback=options.loopback)
    kept = options.keep or bool(report.failures)
    print(report, *([f"({folder}/node*/log)"] if kept else []), flush=True)
    if not kept:
        shutil.rmtree(folder)
    return 1 if report.failures else 0


def _become_root_of_nothing() -> None:
    """Whoever is not root may be so in a user namespace, where the kernel allows that; else go on as it is."""
    unshare = ["unshare", "--user", "--map-root-user"]
    if os.geteuid() == 0 or not shutil.which(unshare[0]):
        return
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode == 0:
        os.execvp(unshare[0], [*unshare, sys.executable, "-m", "tests.network.lab", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
