"""What is checked in under contracts/artifacts is what the sources compile to."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.contracts.chains import CONTRACTS, artifact
from tests.support import find_forge, require_real


def test_artifacts_are_what_the_sources_compile_to(tmp_path: Path) -> None:
    """Compiled afresh, elsewhere: nothing that was built before is taken over."""
    forge = find_forge()
    require_real("forge (contracts/install.sh)", forge)
    for name in ("src", "script", "bin"):
        shutil.copytree(CONTRACTS / name, tmp_path / name)
    shutil.copy(CONTRACTS / "foundry.toml", tmp_path)
    (tmp_path / "node_modules").symlink_to(CONTRACTS / "node_modules")
    built = subprocess.run(
        [str(forge), "build", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    checked_in = sorted((CONTRACTS / "artifacts").glob("*.json"))
    assert checked_in
    for path in checked_in:
        fresh = json.loads((tmp_path / "out" / f"{path.stem}.sol" / path.name).read_text())
        made = artifact(path.stem)
        assert made["abi"] == fresh["abi"], path.name
        assert made["bytecode"] == fresh["bytecode"]["object"], path.name
        assert made["solc"] == fresh["metadata"]["compiler"]["version"], path.name


def test_bytecode_needs_no_linking_and_fits() -> None:
    for path in (CONTRACTS / "artifacts").glob("*.json"):
        bytecode = bytes.fromhex(artifact(path.stem)["bytecode"].removeprefix("0x"))
        assert 0 < len(bytecode) <= 49_152, path.name  # EIP-3860
