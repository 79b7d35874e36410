"""What a real node tells the others of itself, as its own records have it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from decentraspace.records.schema import NodeAnnouncement
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules
from tests.node.running import RunningNode
from tests.support import free_port

RULES = NetworkRules("devnet", 31337, "decentraspace.localhost")


def announced(node: RunningNode) -> NodeAnnouncement:
    """Waits for it: the node announces itself after it is ready."""

    def look() -> NodeAnnouncement | None:
        store = RecordStore(node.folder / "data" / "records.sqlite", RULES)
        try:
            found = store.nodes(int(time.time()))
        finally:
            store.close()
        assert len(found) <= 1
        return found[0].body if found else None

    body: NodeAnnouncement = node.until(look)
    return body


@pytest.mark.slow
def test_more_addresses_than_an_announcement_holds_are_cut(tmp_path: Path) -> None:
    port = free_port()
    listen = ",".join(f"/ip4/127.0.0.{n}/tcp/{port}" for n in range(2, 22))
    with RunningNode(tmp_path, NETWORK_LISTEN=listen, NODE_NAME="n" * 64) as node:
        told = announced(node)
        assert len(told.addrs) == 16
        assert all("/p2p/" in address for address in told.addrs)
        assert told.name == "n" * 64
        assert told.gateway == f"http://127.0.0.1:{node.gateway}"
        assert told.http == node.url
        assert "not_reachable" not in node.log()


@pytest.mark.slow
def test_a_node_whose_gateway_is_its_own_affair_says_so(tmp_path: Path) -> None:
    with RunningNode(tmp_path, NETWORK_LISTEN=f"/ip4/0.0.0.0/tcp/{free_port()}") as node:
        told = announced(node)
        assert (told.gateway, told.http) == ("", "")
        assert "not_reachable" in node.log()
        assert "gateway.public_url" in node.log()
        assert node.ready()


@pytest.mark.slow
def test_addresses_to_announce_get_the_peer_id(tmp_path: Path) -> None:
    with RunningNode(
        tmp_path,
        NETWORK_ANNOUNCE="/dns4/node.example/tcp/4001",
        GATEWAY_PUBLIC_URL="https://Sites.example/",
        GATEWAY_DOMAIN="Sites.Example",
    ) as node:
        told = announced(node)
        [address] = told.addrs
        assert address.startswith("/dns4/node.example/tcp/4001/p2p/12D3KooW")
        assert told.gateway == "https://Sites.example"
        assert told.http == "", "the API is not for others"
