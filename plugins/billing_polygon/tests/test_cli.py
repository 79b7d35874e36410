"""The operator's commands, by the real program against a real chain."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.billing_polygon.tests.conftest import ROOT, World, account
from plugins.billing_polygon.tests.test_on_chain import Mining

from decentraspace.testing import Workbench
from decentraspace_billing_polygon.signer import KeyFile, make_keystore

Run = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "decentraspace", *map(str, arguments)]


@pytest.fixture
def run(world: World, workbench: Workbench, tmp_path: Path) -> Run:
    """run(*arguments): an `operator` command with this configuration."""
    workbench.parts().blocks.close()

    def make(*arguments: object) -> subprocess.CompletedProcess[str]:
        every = ["--config", tmp_path / "config.toml", "--data-dir", tmp_path / "data"]
        return subprocess.run(
            command("operator", arguments[0], *every, *arguments[1:]),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return make


@pytest.mark.slow
def test_registers_and_leaves(world: World, run: Run) -> None:
    found = json.loads(run("status", "--json").stdout)
    assert (found["standing"], found["operator"]) == ("not registered", world.operator.address)
    asked = ("register", "--http", "https://node.example", "--yes", "--json")
    refused = run(*asked)
    assert refused.returncode == 2
    assert "--deposit" in json.loads(refused.stderr)["hint"]
    refused = run(*asked, "--deposit")
    assert "tokens" in json.loads(refused.stderr)["detail"]
    world.send(world.token.functions.mint(world.operator.address, 2_000_000), account(9))
    with Mining(world.chain):
        done = run(*asked, "--deposit")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["standing"], found["stake"], found["http"]) == (
            "active", 1_000_000, "https://node.example",
        )  # fmt: skip
        assert found["peer_id"].startswith("12D3Koo")
        assert world.operators.functions.isOperator(world.operator.address).call()
        changed = run("register", "--http", "https://other.example", "--yes")
        assert changed.returncode == 0, changed.stderr
        left = run("leave", "--yes", "--json")
        assert json.loads(left.stdout)["standing"] == "leaving"
        early = run("leave", "--yes")
        assert (early.returncode, "taken back from" in early.stderr) == (2, True)
        world.chain.mine(4, 15 * 86400)
        back = run("leave", "--yes", "--json")
        assert back.returncode == 0, back.stderr
        assert json.loads(back.stdout)["credits"] == 1_000_000


def test_trusts_another_chain_when_told(world: World, run: Run) -> None:
    world.chain.mine(20)
    assert run("status").returncode == 0
    world.chain.ask("anvil_reorg", 6, [])
    refused = run("status")
    assert refused.returncode == 2
    assert "trust-chain" in refused.stderr
    assert run("trust-chain", "--yes").returncode == 0
    assert run("status").returncode == 0


@pytest.mark.parametrize("arguments", [["operator-key"], ["operator"], ["operator", "register"]])
def test_help_has_examples(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        command(*arguments, "--help"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "Example" in done.stdout


def test_makes_a_key_that_opens(tmp_path: Path) -> None:
    """At a terminal, where alone a password can be asked for without an echo."""
    file = tmp_path / "key.json"
    said = at_a_terminal(command("operator-key", file), ["correct horse", "correct horse"])
    assert "0x" in said
    assert "correct horse" not in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = KeyFile(file, "correct horse")
    assert key.address in said
    before = file.read_bytes()
    assert "exists already" in at_a_terminal(command("operator-key", file), [])
    assert file.read_bytes() == before


def at_a_terminal(arguments: list[str], lines: list[str]) -> str:
    """All that a person sees; each of `lines` is typed once it is asked for."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(arguments[0], arguments)
    said = b""
    waiting = list(lines)
    try:
        while True:
            said += os.read(terminal, 4096)
            if waiting and said.rstrip(b" ").endswith(b":"):
                os.write(terminal, waiting.pop(0).encode() + b"\n")
                said += b"\n"
    except OSError:  # the other end is closed: it has ended
        pass
    os.waitpid(pid, 0)
    os.close(terminal)
    return said.decode()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    from decentraspace.errors import Conflict

    file = tmp_path / "key.json"
    file.write_text("mine")
    with pytest.raises(Conflict):
        make_keystore(file, "correct horse")
    assert file.read_text() == "mine"
