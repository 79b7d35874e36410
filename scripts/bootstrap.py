#!/usr/bin/env python3
"""Make `.venv` ready: `bootstrap.py run` for using the node, `bootstrap.py dev` for testing it too.

`bootstrap.py missing` prints the system packages that it takes and that are not there, and does nothing.
Only the standard library, so that it runs on a new machine. Does nothing when all is as it should be.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def missing_system_packages() -> list[str]:
    """Debian package names of what is needed to build the compiled dependencies and is not there."""
    missing = []
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        missing.append("gcc")
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        missing.append("python3-dev")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "gmp.c")
        source.write_text("#include <gmp.h>\nint main(void) { return 0; }\n")
        if (
            compiler is None
            or subprocess.run(
                [compiler, "-fsyntax-only", str(source)], capture_output=True, check=False
            ).returncode
        ):
            missing.append("libgmp-dev")
    return missing


def stamp_of(kind: str) -> str:
    """What the environment was made from; another value means it must be made again."""
    digest = hashlib.sha256(f"{kind} {sys.version} {ROOT}".encode())
    for path in [ROOT / "pyproject.toml", *sorted((ROOT / "requirements").glob("*.txt"))]:
        digest.update(path.read_bytes())
    for plugin in PLUGINS:
        digest.update((plugin / "pyproject.toml").read_bytes())
    return digest.hexdigest()


def pip(*arguments: str) -> None:
    subprocess.run(
        [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments],
        check=True,
        cwd=ROOT,
    )


def main() -> int:
    kind = sys.argv[1] if len(sys.argv) > 1 else "run"
    if kind not in {"run", "dev", "missing"}:
        print("usage: bootstrap.py [run|dev|missing]", file=sys.stderr)
        return 2
    if sys.version_info < (3, 11):
        print(
            f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. "
            "Name another with `make PYTHON=python3.12 …`.",
            file=sys.stderr,
        )
        return 2
    if kind == "missing":
        print(*missing_system_packages())
        return 0
    markers = {k: VENV / f".ready-{k}" for k in ("run", "dev")}
    # An environment for development can do all that one for running can.
    for marked, path in markers.items():
        if marked in {kind, "dev"} and path.exists() and path.read_text() == stamp_of(marked):
            return 0
    if missing := missing_system_packages():
        print(
            "System packages are missing. On Debian or Ubuntu, as root:\n"
            f"  apt-get update && apt-get install -y {' '.join(missing)}\n"
            "Then run the same command again.",
            file=sys.stderr,
        )
        return 2
    try:
        if not PYTHON.exists():
            print("Making .venv …", flush=True)
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        print("Installing pinned requirements …", flush=True)
        pip("--require-hashes", "-r", "requirements/build.txt")
        pip("--require-hashes", "-r", f"requirements/{kind}.txt")
        local = [argument for path in (ROOT, *PLUGINS) for argument in ("-e", str(path))]
        pip("--no-deps", "--no-build-isolation", *local)
    except subprocess.CalledProcessError as error:
        print(f"Setting up failed (exit {error.returncode}); its reason is above.", file=sys.stderr)
        return 2
    markers[kind].write_text(stamp_of(kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
