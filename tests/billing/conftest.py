"""A chain with the contracts, an owner, and nodes that settle there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from plugins.billing_polygon.tests.conftest import Anvil, World, make_world

from tests.billing.owner import Owner
from tests.billing.pyevm import PyEvm
from tests.node.running import RunningNode

_REQUESTS = 10_000_000_000  # for a million: 10,000 credits each


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """On anvil; for a test that asks for it by parameter, on py-evm."""
    chain = PyEvm() if getattr(request, "param", "anvil") == "py-evm" else Anvil()
    yield chain.world() if isinstance(chain, PyEvm) else make_world(chain)
    chain.close()


@pytest.fixture
def owner(tmp_path: Path, world: World) -> Owner:
    return Owner(tmp_path, world)


@pytest.fixture
def make_node(tmp_path: Path, owner: Owner) -> Callable[..., RunningNode]:
    """make_node(folder's name, the operator's account, tables of other plugins, **settings, by their variables)"""
    world, password = owner.world, tmp_path / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    table = {
        "rpc": [world.chain.url], "chain_id": 31337, "vault": world.vault.address,
        "operators": world.operators.address, "sites": world.sites.address,
        "password_file": str(password), "settle_margin": 0,
    }  # fmt: skip
    settings = {
        "PLUGINS_DISABLED": "billing_paystack,storage_ipfs",
        "BILLING_TICK": "0.2", "BILLING_SETTLE_CHECK": "0.5", "BILLING_SETTLE_LEAST": "1",
        "BILLING_REQUESTS_PRICE": str(_REQUESTS), "BILLING_PAID_LEAST": "1000", "BILLING_EGRESS_PRICE": "0",
        "BILLING_STORAGE_PRICE": "1", "LIMITS_PAID_FREE_REQUESTS": "0", "LIMITS_FREE_REQUESTS": "0",
        "LIMITS_PAID_FREE_STORAGE": "0", "LIMITS_FREE_STORAGE": "0",
    }  # fmt: skip

    def make(
        name: str = "node",
        operator: LocalAccount | None = None,
        tables: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        **more: str,
    ) -> RunningNode:
        key, file = tmp_path / f"{name}.key.json", tmp_path / f"{name}.toml"
        secret = (operator or world.operator).key
        key.write_text(json.dumps(Account.encrypt(secret, "correct horse", kdf="pbkdf2", iterations=1000)))
        lines = []
        for plugin, values in {"billing_polygon": {**table, "keystore": str(key)}, **tables}.items():
            lines += [f"[plugin.{plugin}]", *(f"{n} = {json.dumps(value)}" for n, value in values.items())]
        file.write_text("\n".join(lines))
        node = RunningNode(tmp_path / name, **{**settings, "CONFIG": str(file), **more})
        node.environment.update(owner.clock)
        return node

    return make
