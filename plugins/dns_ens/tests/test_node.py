"""`name.eth` at a whole node: a site deployed there, and the real contracts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from plugins.dns_ens.tests.chain import Ens
from plugins.dns_ens.tests.conftest import IPFS

from decentraspace.testing import RunningNode, until
from decentraspace_dns_ens import contenthash

_MNEMONIC = "test test test test test test test test test test test junk"  # anvil's own, known to everybody


def key_of(number: int) -> str:
    Account.enable_unaudited_hdwallet_features()
    made = Account.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}")
    return "0x" + bytes(made.key).hex()


@pytest.fixture
def node(ens: Ens, tmp_path: Path) -> Iterator[RunningNode]:
    lines = ['names.resolvers = ["eth=dns_ens"]', "[plugin.dns_ens]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in ens.settings(ttl=0, timeout=10).items()]
    file = tmp_path / "config.toml"
    file.write_text("\n".join(lines))
    with RunningNode(tmp_path / "node", plugins=["dns_ens"], CONFIG=str(file), NAMES_TIMEOUT="20") as running:
        yield running


@pytest.fixture
def run(node: RunningNode, tmp_path: Path) -> Callable[..., Any]:
    """The command line, as account `wallet` of the chain; what it prints as JSON."""

    def call(*arguments: str, wallet: int = 1, stdin: str = "") -> Any:
        home = {"HOME": str(tmp_path), "DECENTRASPACE_HOME": str(tmp_path / f"home{wallet}")}
        done = subprocess.run(
            [sys.executable, "-m", "decentraspace", *arguments, "--json"],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={**node.environment, **home},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

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
    ens: Ens, node: RunningNode, deploy: Callable[[str], dict[str, Any]]
) -> None:
    first = deploy("<h1>first version")
    name = ens.show("mine", ens.chain.accounts[1], contenthash.write(f"/ipns/{first['ipns']['name']}"))
    block = ens.chain.web3.eth.block_number
    await shows(node, name, "first version")
    await shows(node, f"{name}:{node.gateway}", "first version")
    await shows(node, f"{name}.localhost:{node.gateway}", "first version")
    await shows(node, f"mine-eth.localhost:{node.gateway}", "first version")
    deploy("<h1>second version")
    await shows(node, name, "second version")
    await shows(node, f"{name}.localhost:{node.gateway}", "second version")
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
