"""`name.eth` at a whole node: a site deployed there, and the real contracts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from plugins.dns_ens.tests.chain import Ens
from plugins.dns_ens.tests.conftest import IPFS

from decentraspace.testing import RunningNode, until
from decentraspace_dns_ens import contenthash, naming

_MNEMONIC = "test test test test test test test test test test test junk"  # anvil's own, known to everybody


def key_of(number: int) -> str:
    Account.enable_unaudited_hdwallet_features()
    made = Account.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}")
    return "0x" + bytes(made.key).hex()


Start = Callable[..., RunningNode]


@pytest.fixture
def start(ens: Ens, tmp_path: Path) -> Iterator[Start]:
    """start("name", **settings): a node that asks this chain."""
    lines = ['names.resolvers = ["eth=dns_ens"]', "[plugin.dns_ens]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in ens.settings(ttl=0, timeout=10).items()]
    file = tmp_path / "config.toml"
    file.write_text("\n".join(lines))
    with ExitStack() as stack:

        def one(name: str, **settings: str) -> RunningNode:
            settings = {"NAMES_TIMEOUT": "20", "NETWORK_ALLOW_PRIVATE": "yes", **settings}
            node = RunningNode(tmp_path / name, plugins=["dns_ens"], CONFIG=str(file), **settings)
            return stack.enter_context(node)

        yield one


@pytest.fixture
def node(start: Start) -> RunningNode:
    return start("first")


@pytest.fixture
def run(node: RunningNode, tmp_path: Path) -> Callable[..., Any]:
    """The command line, as account `wallet` of the chain; what it prints as JSON."""

    def call(*arguments: str, wallet: int = 1, stdin: str = "", code: int = 0) -> Any:
        home = {"HOME": str(tmp_path), "DECENTRASPACE_HOME": str(tmp_path / f"home{wallet}")}
        done = subprocess.run(
            [sys.executable, "-m", "decentraspace", *arguments, "--json"],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={**node.environment, **home},
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    return call


@pytest.fixture
def deploy(node: RunningNode, run: Callable[..., Any], tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    run("login", "--node", node.url, "--key-stdin", stdin=key_of(1) + "\n")

    def made(text: str) -> dict[str, Any]:
        folder = tmp_path / "site"
        folder.mkdir(exist_ok=True)
        (folder / "index.html").write_text(text)
        found: dict[str, Any] = run("deploy", str(folder), "--site", "named")
        return found

    return made


def get(node: RunningNode, host: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{node.gateway}/", headers={"Host": host}, timeout=30, trust_env=False)


async def shows(node: RunningNode, host: str, text: str) -> None:
    async def so() -> bool:
        answer = get(node, host)
        return answer.status_code == 200 and text in answer.text

    try:
        await until(so, 60)
    except AssertionError:
        answer = get(node, host)
        raise AssertionError(f"{host}: {answer.status_code} {answer.text[:500]}\n{node.log()}") from None


async def test_a_name_shows_a_site_and_its_next_version_without_gas(
    ens: Ens, node: RunningNode, run: Callable[..., Any], deploy: Callable[[str], dict[str, Any]]
) -> None:
    """The owner signs what the node prepares, once; nothing is linked."""
    owner = ens.chain.accounts[1]
    key = deploy("<h1>first version")["ipns"]["name"]
    name = ens.register("mine", owner)
    for _ in range(2):  # the resolver, and what it says
        told = run("domains", "status", name, "--site", "named", "--transaction")
        ens.chain.sign(told["transaction"], owner)
    found = ens.resolver.functions.contenthash(naming.namehash(name)).call()
    assert contenthash.read(found).path == f"/ipns/{key}"
    block = ens.chain.web3.eth.block_number
    below = f"localhost:{node.gateway}"
    for host in (name, f"{name}:{node.gateway}", f"{name}.{below}", f"mine-eth.{below}"):
        await shows(node, host, "first version")
    deploy("<h1>second version")
    for host in (name, f"{name}.{below}"):
        await shows(node, host, "second version")
    assert ens.chain.web3.eth.block_number == block


async def test_content_of_a_site_by_its_cid_and_no_other(
    ens: Ens, node: RunningNode, deploy: Callable[[str], dict[str, Any]]
) -> None:
    owner = ens.chain.accounts[1]
    root = deploy("<h1>by cid")["root"]
    name = ens.show("fixed", owner, contenthash.write(f"/ipfs/{root}"))
    await shows(node, name, "by cid")
    other = ens.show("other", owner, IPFS)
    for host in (other, f"{other}.localhost:{node.gateway}", "nobody-has-it.eth"):
        answer = get(node, host)
        assert answer.status_code == 404, answer.text


async def test_a_linked_name_is_its_owners_alone_at_every_node(
    ens: Ens,
    start: Start,
    node: RunningNode,
    run: Callable[..., Any],
    deploy: Callable[[str], dict[str, Any]],
    tmp_path: Path,
) -> None:
    """No contenthash is set: a link is enough here. It ends with the name's sale."""
    owner, buyer = ens.chain.accounts[1:3]
    name = ens.register("linked", owner)
    deploy("<h1>by its owner")
    run("domains", "link", name, "named")
    ready = node.get("/readyz")
    assert ready is not None
    peer = f"{node.environment['DECENTRASPACE_NETWORK_LISTEN']}/p2p/{ready.json()['peer_id']}"
    other = start("second", NETWORK_BOOTSTRAP=peer)
    for one in (node, other):
        await shows(one, name, "by its owner")
        await shows(one, f"{name}.localhost:{one.gateway}", "by its owner")
    # Somebody else may not …
    run("login", "--node", node.url, "--key-stdin", wallet=2, stdin=key_of(2) + "\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("<h1>by its buyer")
    run("deploy", str(tmp_path / "other"), "--site", "other", wallet=2)
    assert "name-not-yours" in run("domains", "link", name, "other", wallet=2, code=2)
    assert "by its owner" in get(node, name).text
    # … until the name is theirs.
    number = int.from_bytes(naming.keccak256(b"linked"))
    ens.chain.send(ens.registrar.functions.transferFrom(owner, buyer, number), owner)
    ens.chain.send(ens.registrar.functions.reclaim(number, buyer), buyer)
    run("domains", "link", name, "other", wallet=2)
    for one in (node, other):
        await shows(one, name, "by its buyer")
