"""An owner with a wallet and a clock of her own, who uses the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from plugins.billing_polygon.tests.conftest import World

from decentraspace.cli import client
from tests.node.running import command

_SHIFTED = '''
"""The computer's clock goes ahead by as many seconds as a file says."""

import os
import time

with open(os.environ["AHEAD"]) as file:
    _ahead = int(file.read())
_time, _gettime = time.time, time.clock_gettime
time.time = lambda: _time() + _ahead
time.clock_gettime = lambda which: _gettime(which) + (_ahead if which == time.CLOCK_BOOTTIME else 0)
'''


class Owner:
    def __init__(self, folder: Path, world: World) -> None:
        self.folder, self.world = folder, world
        self.ahead = folder / "ahead"
        self.ahead.write_text("0")
        (folder / "clock").mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(_SHIFTED)
        self.clock = {"PYTHONPATH": str(folder / "clock"), "AHEAD": str(self.ahead)}
        self.key = "0x" + bytes(world.owner.key).hex().removeprefix("0x")

    def run(self, *words: object, code: int = 0, stdin: str = "") -> str:
        done = command(self.folder, *words, stdin=stdin, **self.clock)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def put(self, path: str, body: Any) -> dict[str, Any]:
        """What the API answers where she is logged in, or its problem document."""
        with mock.patch.dict(os.environ, {"DECENTRASPACE_HOME": str(self.folder / "sessions")}):
            saved = client.load()
            with client.Api(saved.node, saved) as api:
                try:
                    found: dict[str, Any] = api.put(path, body)
                except client.ApiProblem as problem:
                    return problem.document
        return found

    def refused(self, *words: object, stdin: str = "") -> str:
        done = command(self.folder, *words, stdin=stdin, **self.clock)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    def pay(self, *words: object) -> Any:
        """A command that sends transactions."""
        sent = self.run(
            "credits",
            *words,
            "--key-stdin",
            "--rpc",
            self.world.chain.url,
            "--no-wait",
            "--json",
            stdin=self.key,
        )
        self.world.chain.finalize()
        return json.loads(sent)

    def balance(self) -> Any:
        return json.loads(self.run("credits", "balance", "--json"))

    def later(self, seconds: int) -> None:
        self.ahead.write_text(str(int(self.ahead.read_text()) + seconds))
        self.world.chain.ask("evm_increaseTime", seconds)
        self.world.chain.finalize()

    def begin(self, *words: object, stdin: str) -> subprocess.Popen[str]:
        """A command that is still at work when this returns."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DECENTRASPACE_")}
        home = {"HOME": str(self.folder), "DECENTRASPACE_HOME": str(self.folder / "sessions")}
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "decentraspace", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**kept, **home, **self.clock},
        )
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        return process
