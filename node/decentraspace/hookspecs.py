"""Every hook of the node: the contract with authors of plugins.

A plugin implements any of these under the same name, marked `@hookimpl`, with any of the arguments named
here, in any order. `async def` here means `async def` there, and `def` means `def`; an event may be either.
CIDs and addresses are text; money is integer credits (10^-6 USD); times are integer Unix seconds. What a hook
returns is checked against `returns` and copied; None says "not mine". Arguments are never to be changed.

Each hook runs in its plugin's own thread and trio loop, and has `deadline` seconds (None: the setting
`plugins.timeout`), after which it is cancelled. Raise an error of `decentraspace.errors` to refuse; any other
exception is a failure, and so are a missed deadline and a value that makes no sense. Events are delivered one
by one in their order, after the fact, and nobody waits for them. See docs/reference/hooks.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy

from decentraspace import shapes
from decentraspace.routes import Route
from decentraspace.shapes import Shape, integer, list_of, one_of, optional, record, text

if TYPE_CHECKING:
    import click

    from decentraspace.ledger.usage import UsageRow
    from decentraspace.public import NodeAPI

PROJECT = "decentraspace"
hookspec = pluggy.HookspecMarker(PROJECT)

_Spec = TypeVar("_Spec", bound=Callable[..., Any])


@dataclass(frozen=True)
class Hook:
    """`kind`: "async", "sync" or "event". `deadline`: seconds, or None for the setting plugins.timeout."""

    name: str
    kind: Literal["async", "sync", "event"]
    signature: inspect.Signature
    returns: Shape
    deadline: float | None
    doc: str

    @property
    def arguments(self) -> frozenset[str]:
        return frozenset(self.signature.parameters)

    @property
    def declaration(self) -> str:
        """As one writes it: `async def name(argument: type, …) -> type`."""
        signature = str(self.signature).replace("'", "")
        return f"{'async def' if self.kind == 'async' else 'def'} {self.name}{signature}"


HOOKS: dict[str, Hook] = {}


def _hook(
    returns: Shape = shapes.NOTHING, *, deadline: float | None = None, event: bool = False
) -> Callable[[_Spec], _Spec]:
    def mark(function: _Spec) -> _Spec:
        kind: Literal["async", "sync", "event"] = "event" if event else "sync"
        if inspect.iscoroutinefunction(function):
            kind = "async"
        HOOKS[function.__name__] = Hook(
            function.__name__,
            kind,
            inspect.signature(function),
            returns,
            deadline,
            inspect.getdoc(function) or "",
        )
        return hookspec(function)

    return mark


# -- life of the node


@_hook()
async def node_started(node: NodeAPI) -> None:
    """The node serves and takes deploys. Connect, look at `node.config`, `node.start_soon` what runs on."""


@_hook()
async def node_stopping(node: NodeAPI) -> None:
    """The node is about to stop; what `start_soon` started is cancelled afterwards."""


# -- HTTP and command line


@_hook(shapes.instances_of(Route, 100))
def api_routes(node: NodeAPI) -> list[Route] | None:
    """HTTP endpoints to add to the node's API; asked once, at start. A path that exists is skipped."""


@_hook()
def cli_commands(group: click.Group) -> None:
    """Add commands to `group` (empty, of this plugin alone); they become subcommands of `decentraspace`.

    Called in the command-line program, where there is no node. A name that exists already is skipped.
    """


# -- content

PIN_STATES = ("pinned", "queued", "failed")


@_hook(optional(one_of(*PIN_STATES)))
async def storage_pin(cid: str, node: NodeAPI) -> str | None:
    """Keep the DAG under `cid`, whose blocks the node holds, in another place as well. Repeatable.

    Returns "pinned" when it is there in full, "queued" when it is written down durably and will be,
    "failed" when it will not. Do what takes long in the background.
    """


@_hook(optional(shapes.BOOLEAN))
async def storage_unpin(cid: str, node: NodeAPI) -> bool | None:
    """The node no longer needs the DAG under `cid` kept elsewhere; whether it had been. Repeatable."""


@_hook(optional(shapes.COUNT), deadline=600.0)
async def storage_fetch(cid: str, max_bytes: int, node: NodeAPI) -> int | None:
    """Bring the DAG under `cid` into the node's store (`node.import_car`, `node.put_blocks`).

    Returns the number of blocks that arrived, or None when the place does not have it. TooLarge if it has
    more than `max_bytes`: whoever named the CID may have lied about its size. The node checks completeness.
    """


@_hook(
    optional(
        record(
            {"service": text(200), "reachable": shapes.BOOLEAN},
            {
                "pinned": shapes.COUNT,
                "queued": shapes.COUNT,
                "failed": shapes.COUNT,
                "detail": text(2000),
            },
        )
    )
)
async def storage_status(node: NodeAPI) -> dict[str, Any] | None:
    """How the other place is: its name, whether it answers, and how many DAGs are in which state."""


# -- names

_PURCHASE = record(
    {"status": one_of("done", "pending", "refused"), "reference": shapes.REFERENCE},
    {"expires": shapes.TIME, "detail": text(2000)},
)
_RECORD = record({"type": text(20), "host": shapes.NAME, "value": text(1000)}, {"note": text(1000)})


@_hook(
    optional(
        record(
            {"kind": one_of("site", "ipfs", "ipns", "none"), "value": text(253)},
            {
                "ttl": integer(0, 86400, "seconds"),
                "path": text(1000, r"(?:/[^\s]*)?", "a path that begins with /"),
            },
        )
    )
)
async def name_resolve(name: str, node: NodeAPI) -> dict[str, Any] | None:
    """What `name` (lower case, no trailing dot) stands for now, and for `ttl` seconds.

    "site": `value` is a site's id or host label; "ipfs": a CID; "ipns": the name of a key, or a name of DNS that is
    to be looked up next; "none": `value` is "", and there is no such name, or it leads nowhere. `path`: below
    `value`. Only the plugin that `names.resolvers` sets for the name is asked. Unavailable when nobody could say: what
    was known before goes on being used then.
    """


@_hook(
    optional(
        record(
            {
                "state": one_of("held", "missing", "stranger"),
                "method": text(40, r"[a-z][a-z0-9-]*", "an identifier"),
                "detail": text(2000),
            },
            {
                "ttl": integer(0, 86400, "seconds"),
                "expires": shapes.TIME,
                "seen": list_of(
                    record(
                        {"server": text(200), "state": one_of("yes", "no", "silent")}, {"detail": text(500)}
                    ),
                    20,
                ),
                "points": shapes.BOOLEAN,
            },
        )
    ),
    deadline=20.0,
)
async def name_verify(
    name: str, owner: str, site: str, gateway: str, proof: str, node: NodeAPI
) -> dict[str, Any] | None:
    """Whether the wallet `owner` (lower case) may say what `name` shows, by what the naming system itself says.

    "held": it may. "missing": there is no proof of anybody yet. "stranger": the name provably is another's, which ends
    a link at once. `method`: how that was found, such as "txt" or "ens-owner"; `detail`: what it means, in words for
    whoever links the name; `ttl`: how long it holds; `expires`: when the name itself ends; `seen`: what each server
    says; `points`: whether the name leads visitors to this network already. `site`: the host label it is to show;
    `gateway`: host name of this node's gateway, or ""; `proof`: what whoever links the name handed in with the link, or
    "": a signature of the naming system's own, which `name_instructions` asks for. Unavailable when nobody can say:
    never "missing" for that.
    """


@_hook(optional(shapes.ADDRESS))
async def name_owner(name: str, node: NodeAPI) -> str | None:
    """The wallet that owns `name` in the system this plugin speaks for."""


@_hook(
    optional(
        record(
            {"available": shapes.BOOLEAN, "credits": shapes.CREDITS, "years": integer(1, 100)},
            {"valid_until": shapes.TIME, "detail": text(2000)},
        )
    ),
    deadline=30.0,
)
async def name_quote(name: str, years: int, node: NodeAPI) -> dict[str, Any] | None:
    """Whether `name` can be had for `years`, and for how many credits."""


@_hook(optional(_PURCHASE), deadline=120.0)
async def name_purchase(
    name: str, years: int, owner: str, key: str, contact: dict[str, str] | None, node: NodeAPI
) -> dict[str, Any] | None:
    """Buy or renew `name` for `owner`, who has the credits set aside.

    `key` is unique to the purchase: the same key never buys twice, also across crashes, but answers with how it
    stands. "pending": asked again with the key, without `contact`; "refused": nothing was bought, and the credits go
    back. `contact`: what a registrar asks for of a person, or None; to be passed on and neither logged nor kept.
    `expires`: when the name ends if it is not renewed.
    """


@_hook(optional(list_of(_RECORD, 50)))
def name_instructions(
    name: str, site: str, owner: str, gateway: str, node: NodeAPI
) -> list[dict[str, str]] | None:
    """The records that the owner of `name` has to enter for it to show `site`, a host label.

    Those that prove that the wallet `owner` may link it, and those that lead visitors to `gateway`, the host name of
    this node's gateway ("" where it has none). `type`: such as "TXT", or in words what else is to be done.
    """


@_hook(
    optional(
        record(
            {
                "chain_id": shapes.CHAIN,
                "to": shapes.ADDRESS,
                "data": text(20_000, r"0x(?:[0-9a-f]{2})*", "bytes as 0x and hex digits"),
                "value": integer(0, 2**256 - 1, "wei"),
                "detail": text(2000),
            }
        )
    ),
    deadline=20.0,
)
async def name_transaction(name: str, owner: str, target: str, node: NodeAPI) -> dict[str, Any] | None:
    """A transaction for `owner` to sign, after which `name` leads to `target`, a content path (/ipns/NAME or
    /ipfs/CID), wherever names of its kind are understood. Nothing is sent."""


@_hook(
    optional(record({"status": one_of("done", "refused"), "detail": text(2000)})),
    deadline=60.0,
)
async def name_update(
    name: str, records: list[dict[str, str]], credentials: dict[str, str], node: NodeAPI
) -> dict[str, Any] | None:
    """Enter `records` (each {"type", "host", "value"}) where `name` is kept, with `credentials` of its owner.

    What they are called is the plugin's to say (a TSIG key, a token of an API). They are used and forgotten: not
    logged, not written down. Other records of these hosts stay as they are, but for those of the same type that
    exclude each other.
    """


# -- payments

_PAYMENT_STATES = one_of("done", "pending", "refused", "disputed", "reversed")

_PAYMENT = {
    "owner": shapes.ADDRESS,
    "credits": shapes.CREDITS,
    "held_until": shapes.TIME,
    "reversed": shapes.CREDITS,
    "detail": text(2000),
}


@_hook(
    list_of(
        record(
            {"id": text(40, r"[a-z][a-z0-9_-]*", "an identifier"), "title": text(200)},
            {
                "currency": text(20),
                "fee_credits": shapes.CREDITS,
                "address": shapes.ADDRESS,
                "detail": text(2000),
            },
        ),
        50,
    )
)
def payment_methods(node: NodeAPI) -> list[dict[str, Any]] | None:
    """Ways to pay that this plugin offers, with fixed fee and receiving address where there are."""


@_hook(
    optional(
        record(
            {"status": _PAYMENT_STATES, "reference": shapes.REFERENCE},
            {"url": shapes.URL, "transaction": text(20_000), "detail": text(2000)},
        )
    ),
    deadline=60.0,
)
async def payment_recharge(
    method: str, owner: str, credits: int, key: str, node: NodeAPI
) -> dict[str, Any] | None:
    """Begin a payment of `credits` by `owner`; None for a method of another plugin.

    Returns a URL to pay at or a transaction to sign, and how the payment stands (see `payment_events`). `key` as
    in `name_purchase`: the same key never begins a second payment, but answers with the first.
    """


@_hook(
    optional(
        record(
            {
                "status": one_of("done", "pending", "refused", "disputed", "reversed", "ignored"),
                "reference": shapes.REFERENCE,
            },
            _PAYMENT,
        )
    ),
    deadline=60.0,
)
async def payment_webhook(
    method: str, headers: dict[str, str], body: bytes, source: str, node: NodeAPI
) -> dict[str, Any] | None:
    """A payment service called. Check its signature (Forbidden if wrong), then say how the payment it names stands.

    `body`: as it came, byte by byte; `source`: address (IP) of who connected to the node. The answer is as an event
    of `payment_events`, or "ignored" for a call that concerns no payment of this node: both have been taken, and
    are answered with HTTP 200. The same `reference` is credited once, however often it is reported.
    """


@_hook(
    optional(
        record(
            {
                "next": integer(0, 2**53, "number to go on from"),
                "events": list_of(
                    record(
                        {
                            "status": _PAYMENT_STATES,
                            "reference": shapes.REFERENCE,
                            "number": integer(1, 2**53),
                            "time": shapes.TIME,
                        },
                        _PAYMENT,
                    ),
                    1000,
                ),
            }
        )
    ),
    deadline=30.0,
)
async def payment_events(after: int, node: NodeAPI) -> dict[str, Any] | None:
    """Payments that changed after the change number `after`, each as it stands now, the oldest change first.

    So nothing is lost when nobody calls, or the node is down: ask again from `next` (durable; 0: from the start).
    "pending": not paid. "refused": nothing is to be credited; `detail` says why. "done": paid; `owner` has a right to
    `credits`, once per `reference`, and until `held_until` the payer can call the money back, so that it is not to
    be counted as earned before. "disputed": the payer is calling it back, or the service gives it back; nothing is
    to be credited, and what was is held, whatever the time, until another event says how that ended. "reversed":
    `reversed` of the `credits`, all told, were called back; the rest is as if done. `credits` of a reference that was
    done never changes, and `reversed` never shrinks.
    """


@_hook(
    optional(
        list_of(
            record(
                {
                    "allocation": shapes.HASH,
                    "owner": shapes.ADDRESS,
                    "credits": shapes.CREDITS,
                    "reference": shapes.REFERENCE,
                    "status": one_of("pending", "final", "refused", "later"),
                },
                {"detail": text(2000)},
            ),
            10_000,
        )
    ),
    deadline=300.0,
)
async def ledger_settle(
    charges: list[dict[str, Any]], root: str, node: NodeAPI
) -> list[dict[str, Any]] | None:
    """Collect `charges` on chain in one batch, whose Merkle root is `root` (0x and 64 hex digits).

    A charge: {"allocation": 0x and 64 hex digits, "owner": address, "id": the allocation's number of its owner,
    "credits": all that was ever metered under it, a running total; "leaf": root of the usage behind it, 0x and 64
    hex digits, always the same for the same total}. Answer for each
    charge, with its `credits`: "pending" (written down durably, and sent or about to be), "final" (in a final
    block), "refused" (the contract did not pay it; `detail` says why), "later" (nothing was written down: it
    does not pay yet; it is offered again, in a newer batch). `reference`: the transaction's hash, "" before there
    is one. The same root is offered again until all its charges are final or refused, also after a crash:
    it is then to be looked up, and sent at most once at a time.
    """


_BLOCK = integer(0, 2**63 - 1, "a block's number")


@_hook(
    optional(
        record(
            {
                "chain": shapes.CHAIN,
                "next_block": integer(0, 2**63 - 1, "block to go on from"),
                "events": list_of(
                    record(
                        {
                            "block": _BLOCK,
                            "block_hash": shapes.HASH,
                            "time": shapes.TIME,
                            "transaction": shapes.HASH,
                            "index": integer(0, 2**31),
                            "kind": text(60),
                        },
                        {
                            "owner": shapes.ADDRESS,
                            "operator": shapes.ADDRESS,
                            "to": shapes.ADDRESS,
                            "allocation": shapes.HASH,
                            "credits": shapes.CREDITS,
                            "cumulative": shapes.CREDITS,
                            "id": integer(0, 2**256 - 1),
                            "cap": shapes.CREDITS,
                            "rate": shapes.CREDITS,
                            "start": shapes.TIME,
                            "expires": shapes.TIME,
                            "root": shapes.HASH,
                            "label": text(63),
                            "site": text(16, r"[a-z2-7]{16}", "a site id"),
                            "before": shapes.TIME,
                            "reason": text(200),
                        },
                    ),
                    10_000,
                ),
            },
            {"final_block": _BLOCK, "final_time": shapes.TIME},
        )
    ),
    deadline=120.0,
)
async def chain_events(from_block: int, node: NodeAPI) -> dict[str, Any] | None:
    """Final events of the contracts from block `from_block` on, and where to go on. Repeatable.

    All events of a block come in one answer, in their order; each counts once, by chain, transaction and index.
    Kinds and their fields: "recharged" (owner, credits), "allocated" (owner, operator, allocation, id, cap,
    rate, start, expires), "settled" (owner, operator, allocation, credits: what was paid; cumulative: all that was
    metered), "stream_settled" (owner, operator, allocation, credits), "skipped" (allocation, reason), "batch"
    (operator, root, credits), "depleted" (owner, operator, allocation), "released" (owner, allocation, credits),
    "withdrawn" (owner, credits), "spent" (owner, credits; `to`, whom it was given to), "site_transferred" (site,
    label; owner: the new one), "delegations_revoked" (site, owner, before: what the owner delegated earlier has
    ended; site "aaaaaaaaaaaaaaaa" stands for all its sites), "operator_registered" and "operator_removed"
    (operator). Others are passed over. Amounts above 2^63-1 are given as 2^63-1, times
    above 2^40 as 2^40. `final_block` and `final_time`: the newest final block.
    """


@_hook(
    optional(
        record(
            {"chain": shapes.CHAIN, "operator": shapes.ADDRESS, "vault": shapes.ADDRESS},
            {
                "token": shapes.ADDRESS,
                "operators": shapes.ADDRESS,
                "sites": shapes.ADDRESS,
                "first_block": _BLOCK,
                "final_block": _BLOCK,
                "final_time": shapes.TIME,
                "explorer": shapes.URL,
                "reachable": shapes.BOOLEAN,
                "detail": text(2000),
            },
        )
    ),
    deadline=30.0,
)
async def chain_status(node: NodeAPI) -> dict[str, Any] | None:
    """Which contracts this node settles with, as which operator, and how the chain stands.

    `vault`, `token`, `operators`, `sites`: addresses of CreditVault, its coin, OperatorRegistry and SiteRegistry.
    `first_block`: where the contracts begin. What does not depend on the chain is said also when it cannot be
    reached, and before `node_started`, as all hooks about the chain may be asked before.
    """


@_hook(
    optional(
        record(
            {
                "balance": shapes.CREDITS,
                "reserved": shapes.CREDITS,
                "available": shapes.CREDITS,
                "withdrawing": shapes.CREDITS,
                "withdraw_after": shapes.TIME,
                "block": _BLOCK,
                "allocations": list_of(
                    record(
                        {
                            "allocation": shapes.HASH,
                            "operator": shapes.ADDRESS,
                            "id": integer(0, 2**256 - 1),
                            "cap": shapes.CREDITS,
                            "rate": shapes.CREDITS,
                            "start": shapes.TIME,
                            "expires": shapes.TIME,
                            "stream_settled": shapes.CREDITS,
                            "metered_settled": shapes.CREDITS,
                        }
                    ),
                    1000,
                ),
            }
        )
    ),
    deadline=30.0,
)
async def chain_account(owner: str, node: NodeAPI) -> dict[str, Any] | None:
    """What `owner` has on chain as of a final block, and what it allocated to operators."""


@_hook(
    optional(
        record(
            {
                "chain_id": shapes.CHAIN,
                "to": shapes.ADDRESS,
                "data": text(200_000, r"0x(?:[0-9a-f]{2})*", "bytes as 0x and hex digits"),
                "value": integer(0, 2**256 - 1, "wei"),
            },
            {"typed_data": text(20_000), "detail": text(2000), "fee": shapes.CREDITS},
        )
    ),
    deadline=30.0,
)
async def chain_transaction(
    action: str, owner: str, arguments: dict[str, Any], node: NodeAPI
) -> dict[str, Any] | None:
    """A transaction for `owner` to sign and send; None for an action that is not known.

    `action`: "approve", "deposit", "deposit_permit", "deposit_native", "allocate", "raise_allocation",
    "end_allocation", "request_withdrawal", "cancel_withdrawal", "withdraw", "register_site", "renew_site",
    "approve_fee", "transfer_site" or "revoke_delegations", with the `arguments` of that function of the contract
    (amounts are integers, bytes and addresses text). "approve_fee", without any, lets the registry take what a
    transfer costs, which is the `fee` of "transfer_site". `typed_data`: where a signature (EIP-712) does instead of
    a transaction, what to sign, as JSON. BadInput for arguments that cannot be.
    """


@_hook(
    optional(
        record(
            {"status": one_of("pending", "final", "refused"), "reference": shapes.REFERENCE},
            {"detail": text(2000)},
        )
    ),
    deadline=60.0,
)
async def chain_send(
    action: str, arguments: dict[str, Any], key: str, node: NodeAPI
) -> dict[str, Any] | None:
    """Have the operator send a transaction and pay its gas; None for an action that is not known.

    `action` with its `arguments`: "deposit_for" (owner, amount: credits for the owner, of the operator's tokens),
    "allocate_by_signature" (owner, id, cap, rate, start, expires, signature: what the owner signed for this
    operator), "settle_streams" or "release" (allocations: 200 ids at most). `key` is unique to what is to be
    done: the same key never does it twice, also across crashes; ask again with it for how it stands. "pending":
    written down durably, and sent as soon as it can be (`detail`: what it waits for), "final": in a final block,
    "refused": it would be reverted. `reference`: the transaction's hash, "" before there is one. BadInput for
    arguments that cannot be, Conflict for a key that was used for something else.
    """


# -- deploys


@_hook(
    optional(record({"directory": text(4096)}, {"revision": text(200), "message": text(10_000)})),
    deadline=900.0,
)
async def deploy_source(spec: dict[str, Any], node: NodeAPI) -> dict[str, Any] | None:
    """Get what is to be deployed; None for a `spec["kind"]` of another plugin.

    Returns a directory below `node.data_dir`, which is the node's to read until the next call.
    """


# -- events


@_hook(event=True)
def site_deployed(site: str, root: str, node: NodeAPI) -> None:
    """A deploy was acknowledged by this node. `site`: site id; `root`: CID."""


@_hook(event=True)
def record_accepted(kind: str, cid: str, node: NodeAPI) -> None:
    """A record of another node was verified and stored. `kind`: such as "site"; `cid`: the record's own."""


@_hook(event=True)
def usage_recorded(rows: list[UsageRow], node: NodeAPI) -> None:
    """The gateway reported what it served; rows as in `decentraspace.ledger.usage`."""


@_hook(event=True)
def credit_depleted(owner: str, needed: int, node: NodeAPI) -> None:
    """`owner` has run out of credit; `needed` credits are missing."""


@_hook(event=True)
def service_paused(owner: str, service: str, site: str, node: NodeAPI) -> None:
    """A service of `owner` was paused for want of credit. `site`: site id, or "" for all."""


@_hook(event=True)
def site_removal(owner: str, site: str, seconds: int, node: NodeAPI) -> None:
    """Nobody pays for storing `site` (id), and its data here goes in `seconds`, unless somebody does; 0: it is gone."""
