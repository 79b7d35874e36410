"""Credits on Polygon: charges are settled in batches, and what is final on chain is told to the node.

[plugin.billing_polygon]
rpc = ["https://…", "https://…", "https://…"]   # without it the plugin does nothing
vault = "0x…"
keystore = "/etc/decentraspace/operator.json"
password_file = "/etc/decentraspace/operator.password"

Every setting is in the plugin's README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from decentraspace import hookimpl
from decentraspace.errors import DecentraSpaceError, NotFound
from decentraspace.public import HttpRequest, HttpResponse, NodeAPI, Route

if TYPE_CHECKING:
    import click

    from decentraspace_billing_polygon.naming import Naming
    from decentraspace_billing_polygon.parts import Parts

_STATUS_SECONDS = 20.0


@hookimpl
async def node_started(node: NodeAPI) -> None:
    parts = await _parts(node)
    if parts is not None:
        node.start_soon(parts.run)


@hookimpl
async def ledger_settle(
    charges: list[dict[str, Any]], root: str, node: NodeAPI
) -> list[dict[str, Any]] | None:
    parts = await _parts(node)
    return None if parts is None else await parts.settler.settle(charges, root)


@hookimpl
async def chain_events(from_block: int, node: NodeAPI) -> dict[str, Any] | None:
    parts = await _parts(node)
    if parts is None:
        return None
    await parts.chain.check()
    final = await parts.chain.final_block()
    if from_block > final.number:
        final = await parts.listener.newer(final, parts.chain.final_block)
    next_block, events = await parts.chain.events(from_block, final)
    await trio.to_thread.run_sync(parts.allocations.take, events)
    return {
        "chain": parts.settings.chain_id,
        "next_block": max(next_block, from_block),
        "events": events,
        "final_block": final.number,
        "final_time": final.time,
    }


@hookimpl
async def chain_status(node: NodeAPI) -> dict[str, Any] | None:
    parts = await _parts(node)
    if parts is None:
        return None
    settings = parts.settings
    found: dict[str, Any] = {
        "chain": settings.chain_id,
        "operator": parts.signer.address,
        "vault": settings.vault,
        "first_block": settings.first_block,
    }
    for name in ("operators", "sites", "explorer"):
        if getattr(settings, name):
            found[name] = getattr(settings, name)
    try:
        with trio.fail_after(_STATUS_SECONDS):
            await parts.chain.check()
            final = await parts.chain.final_block()
            found |= {
                "final_block": final.number,
                "final_time": final.time,
                "token": await parts.preparer.token(),
            }
    except DecentraSpaceError as error:
        return {**found, "reachable": False, "detail": error.detail}
    except trio.TooSlowError:
        return {**found, "reachable": False, "detail": f"no answer within {_STATUS_SECONDS:g} s"}
    trouble = "; ".join(f"{host}: {why}" for host, why in parts.endpoints.troubles.items())
    return {**found, "reachable": True, "detail": (parts.sender.trouble or trouble)[:2000]}


@hookimpl
async def chain_account(owner: str, node: NodeAPI) -> dict[str, Any] | None:
    parts = await _parts(node)
    return None if parts is None else await parts.chain.account(owner)


@hookimpl
async def chain_transaction(
    action: str, owner: str, arguments: dict[str, Any], node: NodeAPI
) -> dict[str, Any] | None:
    parts = await _parts(node)
    return None if parts is None else await parts.preparer.prepare(action, owner, arguments)


@hookimpl
async def chain_send(
    action: str, arguments: dict[str, Any], key: str, node: NodeAPI
) -> dict[str, Any] | None:
    parts = await _parts(node)
    return None if parts is None else await parts.operating.send(action, arguments, key)


# -- labels of SiteRegistry as names (naming.py); None for a name of others


async def _naming(name: str, node: NodeAPI) -> tuple[Naming, str] | None:
    if not _below(name, node):
        return None
    parts = await _parts(node)
    label = parts.naming.label(name) if parts is not None else None
    return (parts.naming, label) if parts is not None and label is not None else None


def _below(name: str, node: NodeAPI) -> bool:
    domain = node.config.get("labels")
    return bool(domain and node.config.get("rpc")) and name.endswith(f".{domain}")


@hookimpl
async def name_resolve(name: str, node: NodeAPI) -> dict[str, Any] | None:
    found = await _naming(name, node)
    if found is not None:
        return await found[0].resolve(found[1])
    return {"kind": "none", "value": "", "ttl": 3600} if _below(name, node) else None


@hookimpl
async def name_verify(
    name: str, owner: str, site: str, gateway: str, proof: str, node: NodeAPI
) -> dict[str, Any] | None:
    found = await _naming(name, node)
    return None if found is None else await found[0].verify(found[1], owner)


@hookimpl
async def name_owner(name: str, node: NodeAPI) -> str | None:
    found = await _naming(name, node)
    return None if found is None else await found[0].owner(found[1])


@hookimpl
async def name_quote(name: str, years: int, node: NodeAPI) -> dict[str, Any] | None:
    found = await _naming(name, node)
    return None if found is None else await found[0].quote(found[1], years)


@hookimpl
async def name_purchase(
    name: str, years: int, owner: str, key: str, contact: dict[str, str] | None, node: NodeAPI
) -> dict[str, Any] | None:
    found = await _naming(name, node)
    return None if found is None else await found[0].purchase(found[1], years, owner, key)


@hookimpl
async def name_transaction(name: str, owner: str, target: str, node: NodeAPI) -> dict[str, Any] | None:
    found = await _naming(name, node)
    return None if found is None else found[0].transaction(found[1], target)


@hookimpl
def name_instructions(
    name: str, site: str, owner: str, gateway: str, node: NodeAPI
) -> list[dict[str, str]] | None:
    if not _below(name, node):
        return None
    note = f"Its owner has to be this wallet: buy it (`decentraspace domains buy {name}`), or have it transferred."
    return [{"type": "SiteRegistry", "host": name, "value": owner, "note": note}]


@hookimpl
def api_routes(node: NodeAPI) -> list[Route]:
    if not node.config.get("rpc"):
        return []
    summary = "Pushes of RPC providers, signed with plugin.billing_polygon.webhook_keys: only a hint to look."
    return [Route("/blockchain/listener/", _pushed, methods=("POST",), summary=summary)]


async def _pushed(request: HttpRequest, node: NodeAPI) -> HttpResponse:
    parts = await _parts(node)
    if parts is None:
        raise NotFound("This node takes no pushes")
    fresh = parts.listener.push(request.headers, request.body)
    return HttpResponse(200, b'{"new": true}' if fresh else b'{"new": false}')


@hookimpl
def cli_commands(group: click.Group) -> None:
    from decentraspace_billing_polygon.cli import add

    add(group)


async def _parts(node: NodeAPI) -> Parts | None:
    """This node's, made once; None without `rpc`. ConfigError for wrong settings."""
    lock: trio.Lock = node.state.setdefault("lock", trio.Lock())
    async with lock:
        if "parts" not in node.state:
            from decentraspace_billing_polygon.settings import read

            settings = read(node.config)
            if not settings.rpc:
                node.state["parts"] = None
            else:
                node.state["parts"] = await trio.to_thread.run_sync(_load, node, settings)
        parts: Parts | None = node.state["parts"]
        return parts


def _load(node: NodeAPI, settings: Any) -> Parts:
    # Only now: web3 takes a second and 60 MB to import.
    from decentraspace_billing_polygon.parts import assemble

    return assemble(settings, node.data_dir, node.log)
