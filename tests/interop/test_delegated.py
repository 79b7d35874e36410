"""Kubo finds a deployed site by itself: it asks a node who has it (delegated routing), connects and fetches."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from bench.nodes import Node, Owner

from decentraspace.content import cid as cids
from tests.interop.kubo import kubo

TEXT = "<h1>found without being told where</h1>"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, str]]:
    """A running node and the root of a site on it."""
    folder = tmp_path_factory.mktemp("delegated")
    site = folder / "site"
    site.mkdir()
    (site / "index.html").write_text(TEXT)
    (site / "large.bin").write_bytes(bytes(range(256)) * 4096)
    with Node(folder / "node") as node:
        owner = Owner(folder / "home")
        owner.log_in(node)
        done = subprocess.run(
            owner.command("deploy", site, "--json"), env=owner.environment, capture_output=True, check=True
        )
        yield node, json.loads(done.stdout)["root"]


def ask(node: Node, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{node.api_url}/routing/v1/{path}", headers=headers, trust_env=False)


def test_the_holder_of_a_root_is_told(deployed: tuple[Node, str]) -> None:
    node, root = deployed
    answer = ask(node, f"providers/{root}")
    [provider] = answer.json()["Providers"]
    assert (provider["Schema"], provider["ID"]) == ("peer", node.peer_id)
    assert f"/ip4/127.0.0.1/tcp/{node.p2p}" in provider["Addrs"]
    assert f"/ip4/127.0.0.1/tcp/{node.gateway}/http" in provider["Addrs"]
    assert set(provider["Protocols"]) == {"transport-bitswap", "transport-ipfs-gateway-http"}
    assert "max-age=300" in answer.headers["cache-control"]


def test_answers_come_in_lines_and_filtered_where_asked(deployed: tuple[Node, str]) -> None:
    node, root = deployed
    lines = ask(node, f"providers/{root}", Accept="application/x-ndjson")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert json.loads(lines.text)["ID"] == node.peer_id
    assert ask(node, f"providers/{root}?filter-protocols=transport-bitswap").json()["Providers"]
    assert not ask(node, f"providers/{root}?filter-protocols=transport-graphsync-filecoinv1").json()[
        "Providers"
    ]
    [provider] = ask(node, f"providers/{root}?filter-addrs=http").json()["Providers"]
    assert provider["Addrs"] == [f"/ip4/127.0.0.1/tcp/{node.gateway}/http"]
    [provider] = ask(node, f"providers/{root}?filter-addrs=!http").json()["Providers"]
    assert all("/http" not in address for address in provider["Addrs"])


def test_what_nobody_has_is_an_empty_list_for_a_short_while(deployed: tuple[Node, str]) -> None:
    node, _ = deployed
    answer = ask(node, f"providers/{cids.to_text(cids.make(cids.RAW, b'of nobody'))}")
    assert answer.json() == {"Providers": []}
    assert "max-age=15" in answer.headers["cache-control"]


def test_a_node_is_found_by_its_peer_id(deployed: tuple[Node, str]) -> None:
    node, _ = deployed
    [peer] = ask(node, f"peers/{node.peer_id}").json()["Peers"]
    assert peer["ID"] == node.peer_id


@pytest.mark.parametrize("path", ["providers/nonsense", "peers/nonsense", "providers/" + "b" * 300])
def test_nonsense_is_refused_with_a_problem(deployed: tuple[Node, str], path: str) -> None:
    answer = ask(deployed[0], path)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


async def test_kubo_fetches_a_site_that_it_only_knows_the_root_of(
    deployed: tuple[Node, str], tmp_path: Path
) -> None:
    node, root = deployed
    async with kubo(
        tmp_path / "kubo", routers=[f"{node.api_url}/routing/v1/{what}" for what in ("providers", "peers")]
    ) as ipfs:
        assert (await ipfs.run("cat", f"/ipfs/{root}/index.html")).decode() == TEXT
        found = await ipfs.run("routing", "findprovs", root)
        assert node.peer_id in found.decode()
