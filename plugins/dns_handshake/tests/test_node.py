"""Names of Handshake at a whole node: a site deployed there, shown to whoever asks for the name."""

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
from plugins.dns_handshake.tests.conftest import World
from plugins.dns_handshake.tests.hsd import txt

from decentraspace.testing import RunningNode, Wallet

Start = Callable[..., RunningNode]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def start(world: World, folder: Path) -> Iterator[Start]:
    """start("name", **settings): a node that asks this chain."""
    names = ["welcome", "decentraspace", "changing"]
    lines = [
        f"names.resolvers = {json.dumps([f'{name}=dns_handshake' for name in names])}",
        "names.timeout = 60",
        "plugins.timeout = 60",
        "[plugin.dns_handshake]",
        *(
            f"{key} = {json.dumps(value)}"
            for key, value in {**world.settings, "ttl": 1, "safe": False}.items()
        ),
    ]
    file = folder / "config.toml"
    file.write_text("\n".join(lines))
    with ExitStack() as stack:

        def one(name: str, **settings: str) -> RunningNode:
            settings = {"NETWORK_ALLOW_PRIVATE": "yes", "CONFIG": str(file), **settings}
            return stack.enter_context(RunningNode(folder / name, plugins=["dns_handshake"], **settings))

        yield one


@pytest.fixture(scope="module")
def node(start: Start) -> RunningNode:
    return start("first")


@pytest.fixture(scope="module")
def run(node: RunningNode, folder: Path) -> Callable[..., Any]:
    """The command line of an owner who is logged in; what it prints as JSON."""
    wallet = Wallet()
    environment = {**node.environment, "HOME": str(folder), "DECENTRASPACE_HOME": str(folder / "home")}

    def call(*arguments: str, stdin: str = "", code: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "decentraspace", *arguments, "--json"],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    call("login", "--node", node.url, "--key-stdin", stdin=wallet.key.hex() + "\n")
    return call


def deploy(run: Callable[..., Any], folder: Path, text: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text(text)
    found: dict[str, Any] = run("deploy", str(folder), "--site", "named")
    return found


def shows(node: RunningNode, host: str, text: str) -> None:
    def so() -> bool:
        url = f"http://127.0.0.1:{node.gateway}/"
        answer = httpx.get(url, headers={"Host": host}, timeout=60, trust_env=False)
        return answer.status_code == 200 and text in answer.text

    node.until(so)


def status(node: RunningNode, host: str) -> int:
    url = f"http://127.0.0.1:{node.gateway}/"
    return httpx.get(url, headers={"Host": host}, timeout=60, trust_env=False).status_code


def test_a_site_at_its_names(
    world: World, node: RunningNode, run: Callable[..., Any], tmp_path: Path
) -> None:
    """By a record on chain, and by one of a delegated zone; the next version is there without another record."""
    first = deploy(run, tmp_path / "site", "<h1>first version")
    site = first["site_id"] if "site_id" in first else first["site"]
    world.chain.update("welcome", txt(f"decentraspace-site={site}"))
    world.first.set("_dnslink.www.decentraspace", f"dnslink=/ipns/{first['ipns']['name']}")
    for host in ("welcome", f"welcome:{node.gateway}", "WELCOME.", "www.decentraspace"):
        shows(node, host, "first version")
    # Below the gateway's own domain, for visitors who know nothing of Handshake.
    for host in ("welcome.localhost", "www.decentraspace.localhost", "www-decentraspace.localhost"):
        shows(node, f"{host}:{node.gateway}", "first version")
    deploy(run, tmp_path / "site", "<h1>second version")
    for host in ("welcome", "www.decentraspace"):
        shows(node, host, "second version")
    assert status(node, "nothing-of-the-kind.decentraspace") == 404
    assert status(node, "welcomes") == 404
    # Content that no site consists of stays unserved, whatever a name says.
    world.first.set(
        "_dnslink.other.decentraspace",
        "dnslink=/ipfs/bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
    )
    assert status(node, "other.decentraspace") == 404


def test_a_link_that_the_name_s_owner_signed_for(
    world: World, start: Start, node: RunningNode, run: Callable[..., Any], tmp_path: Path
) -> None:
    """Without any record: the name's owner address signs what the node shows. Another's signature is worth nothing;
    and a record that names another wallet makes this one a stranger."""
    deploy(run, tmp_path / "site", "<h1>linked")
    name = "changing"
    world.chain.update(name, txt("v=1"))
    records = run("domains", "status", name, "--site", "named")["records"]
    text = next(one["value"] for one in records if one["type"] == "SIGN")
    another = world.chain.wallet("signmessage", world.chain.wallet("getnewaddress", "default"), text)
    waits = run("domains", "link", name, "named", "--proof", another)
    assert waits["state"] == "waiting"
    assert "no signature by the present owner" in waits["text"]
    assert status(node, name) == 404
    linked = run("domains", "link", name, "named", "--proof", world.chain.sign(name, text))
    assert (linked["state"], linked["method"]) == ("linked", "hns-owner")
    ready = node.get("/readyz")
    assert ready is not None
    peer = f"{node.environment['DECENTRASPACE_NETWORK_LISTEN']}/p2p/{ready.json()['peer_id']}"
    for one in (node, start("second", NETWORK_BOOTSTRAP=peer)):
        shows(one, name, "linked")
    world.chain.update(name, txt(f"decentraspace-owner={Wallet().address}"))
    assert "name-not-yours" in run("domains", "link", name, "named", code=2)
    assert run("domains", "status", name)["state"] == "stranger"
    node.until(lambda: status(node, name) == 404)
