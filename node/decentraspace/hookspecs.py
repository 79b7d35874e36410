"""Every hook: the contract with plugin authors.

An implementation is a function of the same name, marked `@hookimpl`, taking any of the arguments by name;
where the hook is `async`, it may be `async def` (on trio) or an ordinary function. Each call runs in a
thread of its own under `plugins.timeout` seconds; what raises, takes longer or returns something else
than said here is logged with the plugin's name and left out. CIDs are text (base32), owners 0x… text,
money integer credits (10^-6 USD), times Unix seconds. `node` is `decentraspace.public.NodeAPI`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from decentraspace.public import ApiRoute, NodeAPI

hookspec = pluggy.HookspecMarker("decentraspace")


@hookspec
async def node_started(node: NodeAPI) -> None:
    """The node serves. Returns nothing."""


@hookspec
async def node_stopping(node: NodeAPI) -> None:
    """The node is about to end; not called when it is killed. Returns nothing."""


@hookspec
def api_routes(node: NodeAPI) -> Sequence[ApiRoute]:
    """Endpoints below /plugins/NAME/ of the HTTP API. Called once, at start."""


@hookspec
def cli_commands(group: click.Group) -> None:
    """Add commands to `group`, the command line. Called when a command is asked for that is not built in."""


@hookspec
async def storage_pin(cid: str, node: NodeAPI) -> bool:
    """Keep a copy of the DAG under `cid`, which is whole at this node (`node.walk`). True: it is kept."""


@hookspec
async def storage_unpin(cid: str, node: NodeAPI) -> bool:
    """The copy of `cid` is no longer needed. True: it was let go."""


@hookspec
async def storage_fetch(cid: str, node: NodeAPI) -> bool:
    """Bring the DAG under `cid` to this node (`node.put_block`). True: all of it was put."""


@hookspec
async def storage_status(cid: str, node: NodeAPI) -> Mapping[str, Any]:
    """How the copy of `cid` is: {"state": "pinned" | "pinning" | "absent" | "failed", ...details}."""


@hookspec
async def name_resolve(name: str, node: NodeAPI) -> Mapping[str, Any]:
    """What a host name shows: {"site": site id} or {"root": CID}, and "ttl" in seconds; {} if not known."""


@hookspec
async def name_owner(name: str, node: NodeAPI) -> str:
    """The wallet that owns a name, or an empty text."""


@hookspec
async def name_quote(name: str, years: int, node: NodeAPI) -> Mapping[str, Any]:
    """What a name costs: {"credits": integer, "available": bool}; {} if this plugin does not sell it."""


@hookspec
async def name_purchase(name: str, owner: str, years: int, node: NodeAPI) -> Mapping[str, Any]:
    """Buy a name for `owner`: {"name", "expires"}; {} if this plugin does not sell it."""


@hookspec
def name_instructions(name: str, node: NodeAPI) -> Sequence[str]:
    """Sentences that tell an owner what to do to link `name`."""


@hookspec
def payment_methods(node: NodeAPI) -> Sequence[Mapping[str, Any]]:
    """Ways to pay: [{"id", "title", "fee": credits, ...}]."""


@hookspec
async def payment_recharge(owner: str, amount: int, method: str, node: NodeAPI) -> Mapping[str, Any]:
    """Begin to buy `amount` credits: what the payer does next ({"url"} or {"transaction"}); {} if not this method."""


@hookspec
async def payment_webhook(headers: Mapping[str, str], body: bytes, node: NodeAPI) -> bool:
    """A payment provider calls. True: it was ours, authentic, and is booked."""


@hookspec
async def ledger_settle(charges: Sequence[Mapping[str, Any]], node: NodeAPI) -> Sequence[str]:
    """Settle charges ({"id", "owner", "credits"}) on chain; the ids that are settled."""


@hookspec
async def chain_events(cursor: str, node: NodeAPI) -> Mapping[str, Any]:
    """Events of the chain after `cursor`: {"cursor": text, "events": [...]}."""


@hookspec
async def deploy_source(spec: Mapping[str, Any], node: NodeAPI) -> str:
    """Fetch a deploy's content from elsewhere and put its blocks; the root CID, or an empty text."""


@hookspec
async def site_deployed(site: str, root: str, node: NodeAPI) -> None:
    """This node has taken a deploy of `site` (a site id) with content `root`. Returns nothing."""


@hookspec
async def record_accepted(kind: str, cid: str, node: NodeAPI) -> None:
    """A record from another node was verified and stored. Returns nothing."""


@hookspec
async def usage_recorded(rows: Sequence[Any], node: NodeAPI) -> None:
    """Usage was counted durably: rows with site, hour, status, requests, bytes. Returns nothing."""


@hookspec
async def credit_depleted(owner: str, node: NodeAPI) -> None:
    """An owner's credit is used up. Returns nothing."""


@hookspec
async def service_paused(owner: str, service: str, node: NodeAPI) -> None:
    """A service of an owner was paused. Returns nothing."""
