"""Write what `forge build` made of each contract that others use into artifacts/NAME.json, or compare; likewise the
interfaces that the plugin for Polygon carries.

`python3 bin/artifacts.py` writes; `--check` exits with 1 where a file is not what the sources compile to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
FOLDER = HERE / "artifacts"
CARRIED = HERE.parent / "plugins" / "billing_polygon" / "decentraspace_billing_polygon" / "abi"
CARRIED_NAMES = ("CreditVault", "OperatorRegistry", "SiteRegistry")
NAMES = ("CreditVault", "OperatorRegistry", "SiteRegistry", "TimelockController", "DevDollar", "DevFeed")


def artifact(name: str) -> str:
    """What artifacts/NAME.json holds: the ABI, the bytecode to deploy (0x…), and the compiler."""
    built = json.loads((HERE / "out" / f"{name}.sol" / f"{name}.json").read_text())
    compiler = built["metadata"]["compiler"]["version"]
    made = {"solc": compiler, "bytecode": built["bytecode"]["object"], "abi": built["abi"]}
    return json.dumps(made, indent=1) + "\n"


def carried(name: str) -> str:
    """What the plugin's abi/NAME.json holds."""
    built = json.loads((HERE / "out" / f"{name}.sol" / f"{name}.json").read_text())
    return json.dumps(built["abi"], indent=1) + "\n"


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    files = {FOLDER / f"{name}.json": artifact(name) for name in NAMES}
    files |= {CARRIED / f"{name}.json": carried(name) for name in CARRIED_NAMES}
    stale = []
    for path, text in files.items():
        if check and (not path.exists() or path.read_text() != text):
            stale.append(str(path.relative_to(HERE.parent)))
        if not check:
            path.write_text(text)
    if stale:
        sys.stderr.write(f"Not what the sources compile to: {', '.join(stale)}. Run bin/artifacts.py.\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
