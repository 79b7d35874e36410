"""What `decentraspace demo` shows of credits: a chain of its own, an owner who pays, a statement that holds.

The chain and the plugin that settles on it are programs of their own (billing_polygon); nothing of them is imported.
"""

from __future__ import annotations

import importlib.util
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

ENGINES = ("anvil", "py-evm")
PLUGIN = "decentraspace_billing_polygon"
RECHARGED, GRANTED = 5_000_000, 2_000_000
_STARTS = 90.0  # seconds for the chain to be there
_COINS = 10**18
_BLOCKS = "0.3"  # seconds between blocks
# A visit costs so much that a few can be seen, and looks are frequent.
_SETTINGS = """
[billing]
tick = 0.5
settle_check = 1.0
requests_price = 100000000
"""
_VISIT = 100  # credits
_WAITS = 60.0  # seconds, for each thing that comes by itself


T = TypeVar("T")


class Command(Protocol):
    def __call__(self, *words: str, stdin: str = "") -> dict[str, Any]: ...


class ChainFailed(RuntimeError):
    """With what it said."""


class Chain:
    """A process with a chain and the contracts on it: anvil, or py-evm from pip packages. Ends with this one."""

    def __init__(self, folder: Path, engine: str = "auto") -> None:
        self._log = folder / "chain.log"
        chosen = [] if engine == "auto" else ["--engine", engine]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{PLUGIN}.devchain", "--block-time", _BLOCKS, *chosen],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.found: dict[str, Any] = {}

    @staticmethod
    def is_there() -> bool:
        return importlib.util.find_spec(PLUGIN) is not None

    def wait(self) -> None:
        """Until all is there. ChainFailed."""
        out = self._process.stdout
        line = b""
        if out is not None and select.select([out], [], [], _STARTS)[0]:
            line = out.readline()
        if not line:
            raise ChainFailed(self._log.read_text("utf-8", "replace")[-2000:].strip() or "it said nothing")
        self.found = json.loads(line)

    def stop(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()  # it ends with that
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def configuration(self, folder: Path) -> str:
        """Of a node that settles there; its key is made in `folder`."""
        from eth_account import Account

        key, password = folder / "operator.json", folder / "operator.password"
        document = Account.encrypt(self.found["keys"][1], "demo", kdf="pbkdf2", iterations=1000)
        key.write_text(json.dumps(document), "utf-8")
        password.touch(mode=0o600)
        password.write_text("demo\n", "utf-8")
        plugin = {
            "rpc": [self.found["rpc"]],
            **{name: self.found[name] for name in ("chain_id", "vault", "operators", "sites", "first_block")},
            "keystore": str(key),
            "password_file": str(password),
            "settle_margin": 0,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in plugin.items()]
        return "\n".join([_SETTINGS, "[plugin.billing_polygon]", *lines, ""])

    def give(self, owner: str) -> None:
        """Coins for gas, and tokens of which each is a credit: what a faucet gives."""
        from eth_account import Account

        from decentraspace.cli.sending import send
        from decentraspace.identity.ethereum import keccak256

        mint = keccak256(b"mint(address,uint256)")[:4]
        mint += bytes.fromhex(owner[2:]).rjust(32, b"\0") + RECHARGED.to_bytes(32, "big")
        steps = [
            {"to": owner, "value": str(_COINS), "data": "0x"},
            {"to": self.found["token"], "value": "0", "data": "0x" + mint.hex()},
        ]
        faucet = Account.from_key(self.found["keys"][0])
        send(self.found["rpc"], faucet, [{"chain_id": self.found["chain_id"], **step} for step in steps])


class Paying:
    """The story. `node`: the API of a node that settles; `owner` runs a command of the owner's, `operator` one of
    who administrates the node, each giving its JSON. ChainFailed."""

    def __init__(self, chain: Chain, node: str, owner: Command, operator: Command) -> None:
        self._chain, self._node, self._owner, self._operator = chain, node, owner, operator

    def grant(self, address: str, key: str) -> str:
        """The owner buys credits, and lets the node take some of them; in words."""
        self._chain.give(address)
        sends = (
            "--node",
            self._node,
            "--key-stdin",
            "--rpc",
            self._chain.found["rpc"],
            "--no-wait",
            "--json",
        )
        self._owner("credits", "recharge", str(RECHARGED), *sends, stdin=key)
        self._owner("credits", "grant", str(GRANTED), *sends, stdin=key)
        self._until(lambda: self._balance()["room"] >= GRANTED, "the node did not see the grant")
        have = self._balance()["chain"]["balance"]
        if have != RECHARGED:
            raise ChainFailed(f"the vault has {have} credits of the owner, not {RECHARGED}")
        return (
            f"the owner recharged 5 USD on a chain of this demo's own ({self._chain.found['engine']}), "
            "and granted node 2 up to 2 USD of it"
        )

    def settle(self, visits: int, folder: Path) -> tuple[str, str]:
        """The node settles what the visits cost, and the owner checks that; in words."""
        least = visits * _VISIT
        self._until(
            lambda: self._balance()["accrued"] >= least, f"{visits} visits did not come to {least} credits"
        )
        root = self._operator("credits", "settle", "--node", self._node, "--json")["root"]

        def final() -> list[dict[str, Any]]:
            listed = self._owner("credits", "statements", "--node", self._node, "--json")["statements"]
            return [one for one in listed if (one["root"], one["status"]) == (root, "final")]

        [one] = self._until(final, "the charge came into no final block")
        if one["credits"] < least:
            raise ChainFailed(f"{one['credits']} credits were settled, not {least}")
        statement = self._owner("credits", "statements", root, "--node", self._node)
        file = folder / "statement.json"
        file.write_text(json.dumps(statement), "utf-8")
        checked = self._owner("verify-statement", str(file), "--rpc", self._chain.found["rpc"], "--json")
        if checked["paid"] != one["credits"]:
            raise ChainFailed(f"the contract paid {checked['paid']} credits, not {one['credits']}")
        return (
            f"node 2 settled {one['credits']} credits for its visits, in transaction {one['transaction'][:18]}…",
            "the owner's statement holds against the chain: its root is the batch's, and so much was paid",
        )

    def _balance(self) -> dict[str, Any]:
        return self._owner("credits", "balance", "--node", self._node, "--json")

    def _until(self, condition: Callable[[], T], problem: str) -> T:
        end = time.monotonic() + _WAITS
        while not (found := condition()):
            if time.monotonic() > end:
                raise ChainFailed(f"{problem} within {_WAITS:g} s")
            time.sleep(0.2)
        return found
