"""Compile Lookup.sol into the plugin's `questions.json`, or compare: `build.py [--check]`.

Takes Node.js and the compiler of the repository's `contracts/` (its install.sh). Exits with 1 where a file is not
what the source compiles to.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOLC = HERE.parents[2] / "contracts" / "bin" / "solc"
MADE = HERE.parent / "decentraspace_dns_ens" / "questions.json"
CONTRACTS = ("Lookup", "Probe")


def compile_(*sources: Path) -> dict[str, dict[str, object]]:
    """By name of the contract: `abi`, and `bytecode` (0x…), for the chain as it is since Cancun. ValueError."""
    question = {
        "language": "Solidity",
        "sources": {path.name: {"content": path.read_text()} for path in sources},
        "settings": {
            "optimizer": {"enabled": True, "runs": 1},  # short: it travels with every question
            "evmVersion": "cancun",
            "metadata": {"bytecodeHash": "none", "appendCBOR": False},
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
        },
    }
    done = subprocess.run(
        [SOLC, "--standard-json"], input=json.dumps(question), capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    if wrong := [error["formattedMessage"] for error in answer.get("errors", ())]:
        raise ValueError("\n".join(wrong))
    return {
        name: {"abi": made["abi"], "bytecode": "0x" + made["evm"]["bytecode"]["object"]}
        for file in answer["contracts"].values()
        for name, made in file.items()
    }


def text() -> str:
    """What the plugin's file holds."""
    made = compile_(HERE / "Lookup.sol")
    return json.dumps({name: made[name]["bytecode"] for name in CONTRACTS}, indent=1) + "\n"


def main() -> int:
    if sys.argv[1:] != ["--check"]:
        MADE.write_text(text())
    elif MADE.read_text() != text():
        sys.stderr.write(f"{MADE.name} is not what Lookup.sol compiles to. Run contracts/build.py.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
