"""`kill -9` at any instant of deploys, record writes and collection loses nothing acknowledged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from decentraspace.content import cid as cids
from decentraspace.content.reader import walk
from decentraspace.records.schema import Receipt, SiteManifest
from decentraspace.records.verdict import verify
from tests.hosting.crash_child import open_hosting
from tests.hosting.owner import Owner

ROOT = Path(__file__).resolve().parents[2]
KILLS = 100
DEADLINE = 1200.0  # seconds for all of them


@pytest.mark.slow
@pytest.mark.timeout(DEADLINE + 100)
def test_kill_minus_nine_a_hundred_times(tmp_path: Path) -> None:
    rng = random.Random(20260101)
    acknowledged: dict[int, list[str]] = {}
    lives_with_acks = 0
    end = time.monotonic() + DEADLINE
    for kill in range(KILLS):
        assert time.monotonic() < end, f"only {kill} kills in {DEADLINE} s"
        lines = _live_and_die(tmp_path, kill, rng.expovariate(1 / 0.1))
        acks = [line.split()[1:] for line in lines if line.startswith("ack ") and len(line.split()) == 5]
        acknowledged.update({int(seq): rest for seq, *rest in acks})
        lives_with_acks += bool(acks)
        if kill % 20 == 19:
            _check(tmp_path, acknowledged)
    _check(tmp_path, acknowledged)
    assert lives_with_acks > KILLS / 4, "the child hardly got to work; the test says little"


def _live_and_die(folder: Path, seed: int, life: float) -> list[str]:
    """Run the child until `life` seconds after it is ready, kill it, return the lines it had written."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.hosting.crash_child", str(folder), str(seed)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    threading.Timer(life, child.kill).start()
    output = child.stdout.read().decode()
    child.wait()
    # A line cut off by the kill was not acknowledged to anybody.
    return output.split("\n")[:-1]


def _check(folder: Path, acknowledged: dict[int, list[str]]) -> None:
    hosting, blocks, records = open_hosting(folder)
    with blocks:
        hosting.holdings.reconcile()
        owner = Owner(folder / "owner.json", hosting.rules)
        history = {h.seq: h for h in records.history(owner.site_id, "production", limit=-1)}
        for seq, (root, manifest, _) in acknowledged.items():
            assert cids.to_text(history[seq].cid) == manifest, f"version {seq} was acknowledged and is gone"
            assert cids.to_text(history[seq].root) == root
        if not acknowledged:
            return
        newest = max(acknowledged)
        head = records.head(owner.site_id)
        assert head is not None
        assert head.seq >= newest
        entry = hosting.index.get(f"{head.label}--{head.site_id}")
        assert entry is not None
        assert entry.seq >= newest, "the gateway shows an older version than was acknowledged"
        # Three versions are kept, and the head may be one that was committed without being acknowledged.
        for seq in range(newest, max(head.seq - 3, 0), -1):
            for cid, data in walk(blocks.get_or_raise, history[seq].root):
                assert cids.digest_matches(cid, data)
        # A version that was committed, but not acknowledged before the kill, has its receipt by now as well.
        receipt = records.receipt_of(hosting.key.public, owner.site_id, "production")
        assert receipt is not None
        said = verify(receipt.record, hosting.rules).body
        assert isinstance(said, Receipt)
        assert said.held
        assert (said.seq, cids.to_text(said.root)) >= (newest, "")
        if said.seq == newest:
            assert cids.to_text(receipt.cid) == acknowledged[newest][2]
            assert said.root == history[newest].root
        manifest = records.record(head.cid)
        assert manifest is not None
        assert isinstance(verify(manifest, hosting.rules).body, SiteManifest)
    records.close()
