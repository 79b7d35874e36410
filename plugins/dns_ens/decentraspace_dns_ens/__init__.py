"""Names of ENS: `name.eth` shows what its owner set, or the site that its owner links.

[plugin.dns_ens]
rpc = ["https://…", "https://…", "https://…"]   # Ethereum; without it the plugin does nothing

Every setting is in the plugin's README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from decentraspace import hookimpl
from decentraspace.errors import BadInput, Unavailable
from decentraspace.public import NodeAPI

if TYPE_CHECKING:
    from decentraspace_dns_ens.names import Names


@hookimpl
async def node_started(node: NodeAPI) -> None:
    _names(node)  # wrong settings are told at the start


@hookimpl
async def node_stopping(node: NodeAPI) -> None:
    names: Names | None = node.state.pop("names", None)
    if names is not None:
        await names.aclose()


@hookimpl
async def name_resolve(name: str, node: NodeAPI) -> dict[str, Any] | None:
    names = _names(node)
    if names is None:
        return None
    from decentraspace_dns_ens import naming

    try:
        found, ttl = await names.shows(naming.normal(name))
    except BadInput as error:
        node.log.debug("ens_no_name", name=name, why=error.detail)
        return {"kind": "none", "value": "", "ttl": names.settings.ttl}
    except Unavailable as error:
        node.log.debug("ens_silent", name=name, why=error.detail)
        raise
    finally:
        _tell(node, names.endpoints.troubles)
    if found.kind == "none":
        node.log.debug("ens_shows_nothing", name=name, why=found.why)
    return {"kind": found.kind, "value": found.value, "ttl": ttl}


@hookimpl
async def name_verify(name: str, owner: str, node: NodeAPI) -> dict[str, Any] | None:
    names = _names(node)
    if names is None:
        return None
    from decentraspace_dns_ens import naming

    return await names.verdict(naming.normal(name), owner)


@hookimpl
async def name_owner(name: str, node: NodeAPI) -> str | None:
    names = _names(node)
    if names is None:
        return None
    from decentraspace_dns_ens import naming

    try:
        holders = await names.holders(naming.normal(name))
    except BadInput:
        return None
    return holders.all[0][0] if holders.all else None


@hookimpl
async def name_transaction(name: str, owner: str, target: str, node: NodeAPI) -> dict[str, Any] | None:
    names = _names(node)
    if names is None:
        return None
    from decentraspace_dns_ens import naming

    return await names.transaction(naming.normal(name), owner, target)


@hookimpl
def name_instructions(name: str, owner: str, node: NodeAPI) -> list[dict[str, str]] | None:
    if not node.config.get("rpc"):
        return None
    return [
        {
            "type": "owner",
            "host": name,
            "value": owner,
            "note": f"{name} must be owned or managed by this wallet in ENS. That is all it takes for the "
            "gateways of this network.",
        },
        {
            "type": "contenthash",
            "host": name,
            "value": "ipns://KEY",
            "note": "For the gateways of others, once: the IPNS name of the site in place of KEY. This node "
            "prepares the transaction. Later deploys need no other one.",
        },
    ]


def _tell(node: NodeAPI, troubles: dict[str, str]) -> None:
    """The operator, once for each change: a name that cannot be looked up may be its owner's trouble alone."""
    if troubles.keys() != node.state.get("troubles", {}).keys():
        node.log.warning("ens_endpoints", troubles=troubles or "over")
    node.state["troubles"] = troubles


def _names(node: NodeAPI) -> Names | None:
    """This node's, made once; None without `rpc`. ConfigError for wrong settings."""
    if "names" not in node.state:
        from decentraspace_dns_ens.settings import read

        settings = read(node.config)
        if not settings.rpc:
            node.state["names"] = None
        else:
            from decentraspace_dns_ens.names import Names

            node.state["names"] = Names(settings)
    names: Names | None = node.state["names"]
    return names
