"""A disk that can be filled: a file system of some MiB in a mount namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


def on_small_disk(folder: Path, mib: int, script: str, *arguments: object, seconds: float = 120) -> str:
    """Run `script` where `folder` is a disk of `mib` MiB; what it printed. `arguments` follow the folder."""
    mounted = f'mount -t tmpfs -o size={mib}m none "{folder}" && exec "$@"'
    inside = ["unshare", "-Urm", "sh", "-c", mounted, "sh"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount in a namespace of their own")
    command = [*inside, sys.executable, "-c", script, str(folder), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fill(path: Path) -> None:
    """Leave no byte free beside what `path` takes."""
    with path.open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
