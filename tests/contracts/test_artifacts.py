"""What is checked in under contracts/artifacts is what the sources compile to."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contracts.chains import CONTRACTS, artifact
from tests.support import find_forge, require_real

# What OpenZeppelin brings, and describes elsewhere.
INHERITED = re.compile(
    r"(acceptOwnership|eip712Domain|owner|pendingOwner|renounceOwnership|transferOwnership|approve|balanceOf|getApproved"
    r"|isApprovedForAll|name|safeTransferFrom|setApprovalForAll|supportsInterface|symbol|tokenURI|transferFrom)\("
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled afresh, elsewhere: nothing that was built before is taken over."""
    tmp_path = tmp_path_factory.mktemp("contracts")
    forge = find_forge()
    require_real("forge (contracts/install.sh)", forge)
    for name in ("src", "script", "bin"):
        shutil.copytree(CONTRACTS / name, tmp_path / name)
    shutil.copy(CONTRACTS / "foundry.toml", tmp_path)
    (tmp_path / "node_modules").symlink_to(CONTRACTS / "node_modules")
    done = subprocess.run(
        [str(forge), "build", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "out"


def test_artifacts_are_what_the_sources_compile_to(built: Path) -> None:
    checked_in = sorted((CONTRACTS / "artifacts").glob("*.json"))
    assert checked_in
    for path in checked_in:
        fresh = json.loads((built / f"{path.stem}.sol" / path.name).read_text())
        made = artifact(path.stem)
        assert made["abi"] == fresh["abi"], path.name
        assert made["bytecode"] == fresh["bytecode"]["object"], path.name
        assert made["solc"] == fresh["metadata"]["compiler"]["version"], path.name


@pytest.mark.parametrize("name", ["CreditVault", "OperatorRegistry", "SiteRegistry", "DevFeed"])
def test_every_external_function_is_described(built: Path, name: str) -> None:
    made = json.loads((built / f"{name}.sol" / f"{name}.json").read_text())
    described = made["metadata"]["output"]["userdoc"].get("methods", {})
    lacking = [method for method in made["methodIdentifiers"] if method not in described]
    own = [method for method in lacking if not INHERITED.match(method)]
    assert not own


def test_bytecode_needs_no_linking_and_fits() -> None:
    for path in (CONTRACTS / "artifacts").glob("*.json"):
        bytecode = bytes.fromhex(artifact(path.stem)["bytecode"].removeprefix("0x"))
        assert 0 < len(bytecode) <= 49_152, path.name  # EIP-3860
