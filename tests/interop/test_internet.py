"""The public DHT and the question whether one can be reached, with real Kubos, in a namespace of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, find_kubo, require_real

_UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]


def test_kubo_finds_a_node_in_the_public_dht_and_says_whether_it_can_be_reached(tmp_path: Path) -> None:
    require_real("Kubo (tests/interop/build_kubo.sh)", find_kubo())
    if (
        not shutil.which("unshare")
        or not shutil.which("ip")
        or subprocess.run([*_UNSHARE, "true"]).returncode
    ):
        pytest.skip("this machine gives no network namespaces to users")
    command = [*_UNSHARE, sys.executable, "-m", "tests.interop.internet_child", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "told": 3,
        "found": True,
        "brought": "of the node",
        "reachable": [3, 0],
        "behind a closed door": [0, 3],
    }
