"""A site is sold on a real chain: at both nodes the seller's deploys stop when that is final, and the buyer deploys."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from plugins.billing_polygon.tests.conftest import CHAIN, World, account, operator_settings

from decentraspace.identity.delegation import Delegation, build_message
from decentraspace.identity.keys import NodeKey
from decentraspace.identity.sessions import sign_proof
from decentraspace.records.schema import site_id
from decentraspace.records.verdict import NetworkRules
from decentraspace.testing import RunningNode

FEE = 250_000  # of World's registry
RULES = NetworkRules("devnet", CHAIN, "decentraspace.localhost")


def make_node(folder: Path, world: World, **settings: str) -> RunningNode:
    folder.mkdir(parents=True)
    config, table = folder / "config.toml", operator_settings(folder, world)
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    config.write_text("\n".join(["[plugin.billing_polygon]", *lines]))
    return RunningNode(
        folder,
        plugins=["billing_polygon"],
        CONFIG=str(config),
        BILLING_SETTLE_CHECK="0.2",
        BILLING_TICK="0.5",
        NETWORK_SYNC_INTERVAL="0.5",
        LIMITS_FREE_SITES="5",
        **settings,
    )


class Somebody:
    """A wallet with a command line of its own."""

    def __init__(self, home: Path, wallet: LocalAccount, node: RunningNode) -> None:
        self.home, self.wallet, self._node = home, wallet, node
        self.address = bytes.fromhex(wallet.address[2:])
        self.run("login", "--node", node.url, "--key-stdin", stdin=wallet.key.hex())

    def _do(self, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "decentraspace", *map(str, arguments), "--json"],
            env={**self._node.environment, "DECENTRASPACE_HOME": str(self.home)},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def run(self, *arguments: object, stdin: str = "") -> dict[str, Any]:
        done = self._do(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def problem(self, *arguments: object) -> dict[str, Any]:
        done = self._do(*arguments)
        assert done.returncode == 2, done.stdout
        found: dict[str, Any] = json.loads(done.stderr)
        return found


def folder_of(path: Path, text: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / "index.html").write_text(text)
    return path


def owner_at(node: RunningNode, site: str) -> str:
    answer = httpx.get(f"{node.url}/hosting/status/", params={"site": site}, timeout=10, trust_env=False)
    return str(answer.json()["owner"]) if answer.status_code == 200 else ""


def visit(node: RunningNode, host: str) -> str:
    answer = httpx.get(
        f"http://127.0.0.1:{node.gateway}/",
        headers={"host": f"{host}.localhost:{node.gateway}"},
        trust_env=False,
        timeout=10,
    )
    return answer.text if answer.status_code == 200 else ""


class Deployer:
    """What a Git deploy has: a wallet's delegation to a node's own key, for one site."""

    def __init__(self, node: RunningNode, wallet: LocalAccount, site: str) -> None:
        self._node, self._site = node, site
        self._key = NodeKey.load_or_create(node.folder / "data" / "node.key", None)
        now = int(time.time())
        message = build_message(
            bytes.fromhex(wallet.address[2:]),
            self._key.public,
            RULES,
            issued_at=now,
            expires_at=now + 86400,
            scope=site,
        )
        signature = wallet.sign_message(encode_defunct(text=message)).signature
        self._delegation = Delegation(message, bytes(signature))

    def log_in(self) -> httpx.Response:
        with httpx.Client(base_url=self._node.url, timeout=10, trust_env=False) as client:
            challenge = client.get("/auth/login/").json()
            now = int(time.time())
            proof = sign_proof(
                self._key.private, self._delegation, challenge["audience"], challenge["nonce"], now
            )
            return client.post(
                "/auth/login/",
                json={
                    "message": self._delegation.message,
                    "signature": self._delegation.signature.hex(),
                    "nonce": challenge["nonce"],
                    "audience": challenge["audience"],
                    "issued_at": now,
                    "proof": base64.b64encode(proof).decode(),
                },
            )

    def status(self, token: str) -> httpx.Response:
        return httpx.get(
            f"{self._node.url}/hosting/status/",
            headers={"authorization": f"Bearer {token}"},
            timeout=10,
            trust_env=False,
        )


@pytest.mark.slow
def test_a_site_is_sold(tmp_path: Path, world: World) -> None:
    seller_wallet, buyer_wallet = account(3), account(4)
    with make_node(tmp_path / "one", world) as one:
        listen = one.environment["DECENTRASPACE_NETWORK_LISTEN"]
        peer_id = httpx.get(f"{one.url}/readyz", timeout=10, trust_env=False).json()["peer_id"]
        with make_node(tmp_path / "two", world, NETWORK_BOOTSTRAP=f"{listen}/p2p/{peer_id}") as two:
            sell(tmp_path, world, one, two, seller_wallet, buyer_wallet)


def sell(
    tmp_path: Path,
    world: World,
    one: RunningNode,
    two: RunningNode,
    seller_wallet: LocalAccount,
    buyer_wallet: LocalAccount,
) -> None:
    seller = Somebody(tmp_path / "seller", seller_wallet, one)
    buyer = Somebody(tmp_path / "buyer", buyer_wallet, two)  # logged in before it buys
    site = site_id(seller.address, "docs")
    pages = tmp_path / "pages"
    first = seller.run("deploy", folder_of(pages, "by the seller"), "--site", "docs")
    assert first["site"] == site
    for node in (one, two):
        node.until(lambda node=node: owner_at(node, site) == seller_wallet.address)
        node.until(lambda node=node: visit(node, first["host"]) == "by the seller")
    git = Deployer(one, seller_wallet, site)
    token = git.log_in().json()["token"]
    assert git.status(token).status_code == 200
    assert "not-site-owner" in buyer.problem("deploy", pages, "--site", first["host"], "--force")["type"]

    world.send(world.sites.functions.registerSite("docs"), seller_wallet)
    # Registered, it is still the seller's, as before.
    one.until(lambda: seller.run("owner", "docs")["registered"])
    folder_of(pages, "by the seller, once more")
    assert seller.run("deploy", pages, "--site", "docs")["seq"] == 2
    world.recharge(1_000_000, seller_wallet)
    assert "not-site-owner" in buyer.problem("transfer", first["host"], "--to", seller_wallet.address)["type"]
    to = ("transfer", "docs", "--to", buyer_wallet.address)
    planned = seller.run(*to)
    assert planned["fee"] == FEE
    assert [step["action"] for step in planned["transactions"]] == ["approve_fee", "transfer_site"]
    done = seller.run(*to, "--key-stdin", "--rpc", world.chain.url, stdin=seller_wallet.key.hex())
    assert len(done["sent"]) == 2
    world.chain.finalize()
    assert world.vault.functions.accountOf(seller_wallet.address).call()[0] == 1_000_000 - FEE

    # Sold and final: what the seller had delegated ends, for the site and nothing else.
    one.until(lambda: owner_at(one, site) == buyer_wallet.address)
    refused = seller.problem("deploy", folder_of(pages, "too late"), "--site", "docs")
    assert refused["type"].endswith(":not-site-owner")
    assert (refused["status"], refused["owner"]) == (403, buyer_wallet.address)
    one.until(lambda: git.status(token).status_code == 403)
    assert git.log_in().json()["type"].endswith(":not-site-owner")
    assert seller.run("deploy", pages, "--site", "another", "--node", two.url)["seq"] == 1

    # The buyer's login of before does, at once, and both nodes show it.
    bought = buyer.run("deploy", folder_of(pages, "by the buyer"), "--site", first["host"])
    assert (bought["seq"], bought["host"]) == (3, first["host"])
    for node in (one, two):
        node.until(lambda node=node: owner_at(node, site) == buyer_wallet.address)
        node.until(lambda node=node: visit(node, first["host"]) == "by the buyer")
        assert (
            "not-site-owner" in seller.problem("deploy", pages, "--site", "docs", "--node", node.url)["type"]
        )
    assert [s["site"] for s in buyer.run("sites")["sites"]] == [site]
    said = buyer.run("owner", "docs")
    assert [said[name] for name in ("owner", "founder", "publisher")] == [
        buyer_wallet.address,
        seller_wallet.address,
        buyer_wallet.address,
    ]
    assert [one["owner"] for one in said["history"]] == [seller_wallet.address, buyer_wallet.address]
    assert site not in [s["site"] for s in seller.run("sites")["sites"]]
