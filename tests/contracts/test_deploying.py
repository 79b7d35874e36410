"""The deployment script on a chain, and what the networks' configurations say of the contracts."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from web3 import Web3

from tests.contracts.chains import CONTRACTS, artifact, deploy, is_anvil
from tests.support import ROOT, find_forge, require_real

# The first of anvil's published accounts.
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


@pytest.mark.parametrize("web3", ["anvil"], indirect=True)
def test_the_script_deploys_all(web3: Web3) -> None:
    forge = find_forge()
    require_real("forge (contracts/install.sh)", forge)
    assert is_anvil(web3)
    council, treasury = web3.eth.accounts[1:3]
    dollar = deploy(web3, artifact("DevDollar"))
    url = web3.provider.endpoint_uri
    settings = {"TOKEN": dollar.address, "COUNCIL": council, "TREASURY": treasury, "MIN_STAKE": "7"}
    command = [
        str(forge),
        "script",
        "script/Deploy.s.sol",
        "--rpc-url",
        url,
        "--broadcast",
        "--private-key",
        KEY,
    ]
    done = subprocess.run(
        command,
        cwd=CONTRACTS,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    at = dict(
        re.findall(r"^\s+(timelock|vault|operators|sites) (0x[0-9a-fA-F]{40})$", done.stdout, re.MULTILINE)
    )
    vault = web3.eth.contract(address=at["vault"], abi=artifact("CreditVault")["abi"])
    operators = web3.eth.contract(address=at["operators"], abi=artifact("OperatorRegistry")["abi"])
    sites = web3.eth.contract(address=at["sites"], abi=artifact("SiteRegistry")["abi"])
    timelock = web3.eth.contract(address=at["timelock"], abi=artifact("TimelockController")["abi"])
    assert vault.functions.token().call() == dollar.address
    assert vault.functions.owner().call() == at["timelock"]
    assert operators.functions.VAULT().call() == sites.functions.VAULT().call() == at["vault"]
    assert operators.functions.MIN_STAKE().call() == 7
    assert sites.functions.TREASURY().call() == treasury
    proposer = timelock.functions.PROPOSER_ROLE().call()
    assert timelock.functions.hasRole(proposer, council).call()
    assert not timelock.functions.hasRole(b"\0" * 32, web3.eth.accounts[0]).call()


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: path.stem)
def test_networks_name_their_contracts(path: Path) -> None:
    """Empty, or addresses with a checksum, all on the network's own chain."""
    network = tomllib.loads(path.read_text())
    table = network["plugin"]["billing_polygon"]
    assert table["chain_id"] == network["network"]["chain_id"]
    named = [table[name] for name in ("vault", "operators", "sites")]
    assert all(named) or not any(named)
    assert all(not address or Web3.is_checksum_address(address) for address in named)
    assert bool(table["first_block"]) == all(named)
