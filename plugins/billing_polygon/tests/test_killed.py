"""`kill -9` of the whole process at random instants: nothing is paid twice, and nothing is forgotten."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from plugins.billing_polygon.tests.conftest import World, account
from plugins.billing_polygon.tests.test_on_chain import Mining

from decentraspace.testing import Workbench

KILLS = int(os.environ.get("DECENTRASPACE_KILLS", "12"))
PROGRAM = Path(__file__).with_name("killed.py")


class Node:
    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder / "config.toml"), str(folder / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(work))
        self._process.stdin.close()

    def states(self) -> dict[str, Any]:
        """The next that it tells; fails when it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise AssertionError(f"it ended with {self._process.wait()}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_paid_twice_or_forgotten(world: World, workbench: Workbench, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    workbench.parts(replace_after=2).blocks.close()
    world.send(world.token.functions.mint(world.operator.address, 10**6), account(9))
    owners = [account(2), account(3), account(4)]
    for owner in owners:
        world.recharge(10**6, owner)
        world.allocate(900_000, owner=owner)
    kills = rounds = 0
    deposited = 0
    world.chain.ask("evm_setAutomine", False)
    with Mining(world.chain, every=0.3):
        while kills < KILLS:
            rounds += 1
            deposit = dice.randrange(1, 500)
            deposited += deposit
            work = {
                "charges": [world.charge(1000 * rounds + n, owner=o) for n, o in enumerate(owners)],
                "root": "0x" + dice.randbytes(32).hex(),
                "deposit": {
                    "action": "deposit_for",
                    "arguments": {"owner": account(5).address, "amount": deposit},
                    "key": f"card {rounds}",
                },
            }
            done = False
            while not done:
                node = Node(tmp_path, work)
                lives = dice.choice((0.0, 0.1, 0.5, 1.0, 3.0)) * dice.random()
                dies = None if kills >= KILLS else 0.0
                while not done:
                    found = node.states()
                    if dies == 0.0:
                        dies = time.monotonic() + lives  # from when it works on: its start takes longer
                    done = found.get("settle") == ["final"] * 3 and found.get("deposit") == "final"
                    if dies is not None and time.monotonic() >= dies:
                        break
                node.kill()
                kills += 1
    total = sum(1000 * rounds + n for n in range(3))
    assert world.income() == total
    assert world.vault.functions.accountOf(account(5).address).call()[0] == deposited
    logs = world.vault.events.Recharged().get_logs(from_block=0)
    mine = [log["args"]["amount"] for log in logs if log["args"]["owner"] == account(5).address]
    assert len(mine) == rounds
    print(f"{kills} kills in {rounds} rounds")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_name_is_bought_once_and_renewed_once(world: World, workbench: Workbench, tmp_path: Path) -> None:
    """What is done twice would be paid twice: a year more each time."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    workbench.parts(replace_after=2, labels="dsp").blocks.close()
    price, year = world.sites.functions.YEAR_PRICE().call(), 365 * 86400
    world.recharge(5 * price, world.operator)
    with Mining(world.chain, every=0.1):
        ends = [bought(world.owner, key, tmp_path, dice)["expires"] for key in ("first", "second")]
    assert ends[1] - ends[0] == year
    assert world.sites.functions.expiresOf("garden").call() == ends[1]
    assert world.income() == 3 * price


def bought(owner: LocalAccount, key: str, folder: Path, dice: random.Random) -> dict[str, Any]:
    """The answer in the end, of a process that is killed now and then."""
    asked = {"name": "garden.dsp", "years": 1, "owner": owner.address, "key": key, "contact": None}
    for kills in range(50):
        node = Node(folder, {"purchase": asked})
        try:
            found = node.states()
            until = time.monotonic() + (2 * dice.random() if kills < 4 else 120)
            while time.monotonic() < until and found.get("status") != "done":
                found = node.states()
        finally:
            node.kill()
        assert found.get("status") != "refused", found
        if found.get("status") == "done":
            return found
    raise AssertionError("it does not come to an end")
