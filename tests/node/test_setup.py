"""On a machine that lacks something, setting up says what, and how to get it; nothing is made then."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What setting up reads, without the `.venv` of this one."""
    for name in ("scripts", "requirements", ".ci"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH: the shell and this Python, but no compiler."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("bash", "dirname", "id", "make", "sh", "cat", "env"):
        (folder / name).symlink_to(shutil.which(name) or "/nowhere")
    (folder / "python3").symlink_to(sys.executable)
    return folder


def run(folder: Path, path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": str(path), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("kind", ["run", "dev"])
def test_bootstrap_names_the_packages_and_the_line_to_type(checkout: Path, bare: Path, kind: str) -> None:
    done = run(checkout, bare, sys.executable, "scripts/bootstrap.py", kind)
    assert done.returncode == 2
    assert "System packages are missing" in done.stderr
    [line] = [line for line in done.stderr.splitlines() if "apt-get install" in line]
    assert {"gcc", "libgmp-dev"} <= set(line.split())
    assert "Traceback" not in done.stderr
    assert not (checkout / ".venv").exists()
    listed = run(checkout, bare, sys.executable, "scripts/bootstrap.py", "missing")
    assert (listed.returncode, listed.stdout.split()) == (0, line.partition("-y ")[2].split())


def test_a_machine_that_has_everything_lacks_nothing() -> None:
    done = run(ROOT, Path(os.environ["PATH"]), sys.executable, "scripts/bootstrap.py", "missing")
    assert (done.returncode, done.stdout) == (0, "\n"), "these tests run where all is there"


def test_the_check_of_a_change_fails_in_words_where_it_cannot_install(checkout: Path, bare: Path) -> None:
    """There is no apt-get on this PATH, whoever runs this."""
    done = run(checkout, bare, str(bare / "bash"), ".ci/run")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "These packages are missing" in done.stderr
    assert "apt-get install -y gcc libgmp-dev" in done.stderr
    assert not (checkout / ".venv").exists()
