"""A misspelt variable is named, with what it may have been meant to be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from decentraspace import environment
from tests.node.running import RunningNode, command

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("DECENTRASPACE_GATEWAY_PROT", "DECENTRASPACE_GATEWAY_PORT"),
        ("DECENTRASPACE_NETWORK_BOOTSTRAPS", "DECENTRASPACE_NETWORK_BOOTSTRAP"),
        ("DECENTRASPACE_BOOTSTRAP", "DECENTRASPACE_NETWORK_BOOTSTRAP"),
        ("DECENTRASPACE_gateway_port", "DECENTRASPACE_GATEWAY_PORT"),
        ("DECENTRASPACE_DATA_DIR", "DECENTRASPACE_NODE_DATA_DIR"),
        ("DECENTRASPACE_KEY_PASSPHRAS", "DECENTRASPACE_KEY_PASSPHRASE"),
    ],
)
def test_near_names_are_offered(name: str, near: str) -> None:
    [found] = environment.unknown({name: "x", "PATH": "", "DECENTRASPACE_API_PORT": "1"})
    assert found.name == name
    assert found.near[0] == near
    assert near in found.text


def test_what_is_near_nothing_is_named_all_the_same() -> None:
    [one, other] = environment.unknown({"DECENTRASPACE_XYZZY": "", "DECENTRASPACE_PLUGIN_A_B": ""})
    assert "[plugin.NAME]" in one.text
    assert "settings.md" in other.text
    many = {f"DECENTRASPACE_{'x' * 500}{n}": "" for n in range(100)}
    assert len("".join(found.text for found in environment.unknown(many))) < 3000


def test_every_variable_that_is_read_somewhere_is_known() -> None:
    sources = [*ROOT.glob("node/**/*.py"), ROOT / "tests/support.py"]
    sources += [ROOT / "Makefile", ROOT / ".ci/run", *ROOT.glob("plugins/*/*.py")]
    names = set()
    for path in sources:
        names |= set(re.findall(r"(?<![A-Z_])DECENTRASPACE_[A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    # Tests also name variables that must not be known, so of theirs only those count that they read.
    for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("plugins/*/tests/**/*.py")]:
        names |= set(re.findall(r"environ\S*?[(\[]\"(DECENTRASPACE_[A-Z_]+)\"", path.read_text("utf-8")))
    assert {"DECENTRASPACE_CONFIG", "DECENTRASPACE_HOME", "DECENTRASPACE_REQUIRE_REAL"} <= names
    assert environment.unknown(dict.fromkeys(names, "")) == []


def test_commands_warn_and_doctor_finds_it_wrong(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("hello")
    slip = {"DECENTRASPACE_GATEWAY_PROT": "80"}
    done = command(tmp_path, "cid", tmp_path / "page.txt", **slip)
    assert done.returncode == 0
    assert re.fullmatch(
        "warning: DECENTRASPACE_GATEWAY_PROT is no setting, so it has no effect. "
        r"Did you mean DECENTRASPACE_GATEWAY_PORT\b.*\?\n",
        done.stderr,
    )
    assert command(tmp_path, "cid", tmp_path / "page.txt").stderr == ""
    # With --json standard error has at most the one document of an error.
    assert command(tmp_path, "cid", tmp_path / "page.txt", "--json", **slip).stderr == ""
    checked = command(tmp_path, "doctor", "--data-dir", tmp_path / "data", "--json", **slip)
    assert checked.returncode == 2
    findings = [f for f in json.loads(checked.stdout)["findings"] if f["check"] == "environment"]
    assert [f["state"] for f in findings] == ["wrong"]
    assert "DECENTRASPACE_GATEWAY_PORT" in findings[0]["mend"]
    assert checked.stderr == ""


def test_a_node_logs_it(tmp_path: Path) -> None:
    with RunningNode(tmp_path, GATEWAY_PROT="80") as node:
        assert "DECENTRASPACE_GATEWAY_PROT" in node.log()
        assert "DECENTRASPACE_GATEWAY_PORT" in node.log()
