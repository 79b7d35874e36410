"""Kubo's command line with a repository of its own and no network."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support import find_kubo, require_real

ADD = ("add", "-r", "-H", "-Q", "--cid-version=1", "--raw-leaves")


class Kubo:
    """`run` and `add` raise with what Kubo said when it fails."""

    def __init__(self, repo: Path) -> None:
        program = find_kubo()
        require_real("Kubo", program)
        self._program, self._repo = str(program), repo
        self.run("init", "--profile=test", "--empty-repo")

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            [self._program, "--offline", *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, "IPFS_PATH": str(self._repo)},
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        return done.stdout

    def cid(self, path: Path) -> str:
        """What `ipfs add` calls `path`, without keeping it."""
        return self.run(*ADD, "--only-hash", str(path)).decode().strip()

    def add(self, path: Path, *options: str) -> str:
        return self.run("add", "-r", "-Q", *options, str(path)).decode().strip()

    @property
    def version(self) -> str:
        return self.run("version", "--number").decode().strip()
