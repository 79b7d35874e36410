"""Names of Handshake, by the operator's own hsd: where they lead, whose they are, how they are got.

[plugin.dns_handshake]
rpc = "http://127.0.0.1:12037"     # hsd's HTTP server; without it the plugin does nothing
api_key_file = "/etc/decentraspace/hsd.key"

Every setting is in the plugin's README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from decentraspace import hookimpl
from decentraspace.public import NodeAPI

if TYPE_CHECKING:
    from decentraspace_dns_handshake.handshake import Handshake


@hookimpl
async def node_started(node: NodeAPI) -> None:
    await _handshake(node)  # wrong settings are told at once


@hookimpl
async def node_stopping(node: NodeAPI) -> None:
    handshake: Handshake | None = node.state.get("handshake")
    if handshake is not None:
        await handshake.aclose()


@hookimpl
async def name_resolve(name: str, node: NodeAPI) -> dict[str, Any] | None:
    handshake = await _handshake(node)
    return None if handshake is None else await handshake.resolve(name)


@hookimpl
async def name_verify(
    name: str, owner: str, gateway: str, proof: str, node: NodeAPI
) -> dict[str, Any] | None:
    handshake = await _handshake(node)
    return None if handshake is None else await handshake.verify(name, owner.lower(), proof, gateway)


@hookimpl
async def name_owner(name: str, node: NodeAPI) -> str | None:
    handshake = await _handshake(node)
    return None if handshake is None else await handshake.owner(name)


@hookimpl
async def name_quote(name: str, years: int, node: NodeAPI) -> dict[str, Any] | None:
    handshake = await _handshake(node)
    return None if handshake is None else await handshake.quote(name, years)


@hookimpl
async def name_purchase(name: str, years: int, owner: str, key: str, node: NodeAPI) -> dict[str, Any] | None:
    if await _handshake(node) is None:
        return None
    from decentraspace_dns_handshake.guidance import buying

    return {"status": "refused", "reference": "", "detail": buying(name)}


@hookimpl
def name_instructions(
    name: str, site: str, owner: str, gateway: str, node: NodeAPI
) -> list[dict[str, str]] | None:
    if not node.config.get("rpc"):
        return None
    from decentraspace_dns_handshake.handshake import instructions

    return instructions(name, site, owner, gateway)


async def _handshake(node: NodeAPI) -> Handshake | None:
    """This node's, made once; None without `rpc`. ConfigError for wrong settings."""
    lock: trio.Lock = node.state.setdefault("lock", trio.Lock())
    async with lock:
        if "handshake" not in node.state:
            from decentraspace_dns_handshake.settings import read

            settings = read(node.config)
            node.state["handshake"] = None
            if settings.rpc:
                # Only now: httpx and dnspython take some time and memory to import.
                node.state["handshake"] = await trio.to_thread.run_sync(_load, settings)
        handshake: Handshake | None = node.state["handshake"]
        return handshake


def _load(settings: Any) -> Handshake:
    from decentraspace_dns_handshake.handshake import Handshake

    return Handshake(settings)
