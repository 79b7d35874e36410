"""A piece of the internet in a network namespace of its own: Kubos and a node at addresses that look public.

`unshare --user --map-root-user --net python -m tests.interop.internet_child FOLDER` prints what came of it as
JSON. On loopback there is no public DHT, and nobody tries whether somebody can be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from decentraspace.content import cid as cids
from tests.interop.kubo import kubo
from tests.network.exchanging import node
from tests.network.peers import Factory, until

_PLACES = ("11.1.1.1", "23.2.2.2", "45.3.3.3", "66.4.4.4")


async def main(folder: Path) -> dict[str, Any]:
    factory, said = Factory(folder), dict[str, Any]()
    async with AsyncExitStack() as stack:
        kubos = [await stack.enter_async_context(kubo(folder / ip, dht=True, at=ip)) for ip in _PLACES[:3]]
        addresses = [
            f"/ip4/{ip}/tcp/4001/p2p/{await k.peer_id()}" for k, ip in zip(kubos, _PLACES, strict=False)
        ]
        for one in kubos[1:]:
            await one.run("swarm", "connect", addresses[0])
        settings: dict[str, Any] = {
            "dht": "wan",
            "allow_private": False,
            "listen": (f"/ip4/{_PLACES[3]}/tcp/4001",),
            "ipfs_peers": tuple(addresses),
        }
        async with node(factory, folder / "blocks", **settings) as ours:
            dht = ours.peer.network.dht
            assert dht is not None
            await until(lambda: dht.servers == 3)
            mine = cids.make(cids.RAW, b"of the node")
            ours.blocks.put_many([(mine, b"of the node")])
            ours.blocks.pin(mine, "site:test")
            said["told"] = await dht.provide(mine)
            found = await kubos[2].run("routing", "findprovs", "-n", "1", cids.to_text(mine))
            said["found"] = found.decode().split() == [ours.peer.key.peer_id]
            said["brought"] = (await kubos[2].run("cat", cids.to_text(mine))).decode()
            reachability = ours.peer.network.reachability
            await until(lambda: sum(reachability.answers()) == 3)
            said["reachable"] = reachability.answers()
        hidden = {**settings, "listen": (f"/ip4/{_PLACES[3]}/tcp/4002",)}
        async with node(
            factory, folder / "more", announce=(f"/ip4/{_PLACES[3]}/tcp/4003",), **hidden
        ) as ours:
            reachability = ours.peer.network.reachability
            await until(lambda: sum(reachability.answers()) == 3)
            said["behind a closed door"] = reachability.answers()
    factory.close()
    return said


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for place in _PLACES:
        subprocess.run(["ip", "addr", "add", f"{place}/32", "dev", "lo"], check=True)
    for place in _PLACES[:3]:  # else the node would be seen at the address that it connects to
        route = f"ip route replace local {place}/32 dev lo table local src {_PLACES[3]}"
        subprocess.run(route.split(), check=True)
    print(json.dumps(trio.run(main, Path(sys.argv[1]))))
