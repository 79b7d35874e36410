"""What commands have in common that change something on the chain by the wallet's key."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from decentraspace.cli.output import note
from decentraspace.errors import BadInput, Forbidden, Unavailable

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved

F = TypeVar("F", bound=Callable[..., Any])

_FINAL = 1800.0  # seconds to wait for a final block
_EVERY = 2.0

node_option = click.option("--node", help="URL of a node's API (default: where you logged in).")


def signing(function: F) -> F:
    """Options of commands that change something on the chain."""
    for option in (
        click.option("--no-wait", is_flag=True, help="Do not wait for the final block."),
        click.option("--rpc", metavar="URL", help="JSON-RPC endpoint of the chain to send through."),
        click.option(
            "--key-stdin", is_flag=True, help="Sign with the private key on standard input, and send."
        ),
        click.option(
            "--keystore",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Sign with this Ethereum keystore file (JSON, version 3), and send.",
        ),
    ):
        function = option(function)
    return function


class logged_in:
    """Logged in at a node: (api, saved)."""

    def __init__(self, node: str | None) -> None:
        from decentraspace.cli import client

        self._saved = client.load()
        self._api = client.Api(node or self._saved.node, self._saved)

    def __enter__(self) -> tuple[Api, Saved]:
        return self._api, self._saved

    def __exit__(self, *_: object) -> None:
        self._api.__exit__()


def account_for(keystore: Path | None, key_stdin: bool, rpc: str | None, *, alone: bool = False) -> Any:
    """None where the wallet sends by itself. `alone`: a key is of use without an endpoint. BadInput, Forbidden for
    another wallet's key."""
    from decentraspace.cli import client
    from decentraspace.cli.login import account_of
    from decentraspace.identity.ethereum import parse_address

    has_key = keystore is not None or key_stdin
    if (rpc is None) == has_key and not (alone and has_key):
        raise BadInput("Name a key (--keystore or --key-stdin) and --rpc together, or neither.")
    if not has_key:
        return None
    saved = client.load()
    account = account_of(keystore, key_stdin)
    if parse_address(account.address) != saved.address:
        raise Forbidden(f"The key is of {account.address}, and the login of {saved.owner}.")
    return account


def sent(
    api: Api,
    account: Any,
    rpc: str | None,
    steps: list[Any],
    wanted: Sequence[str],
    quiet: bool,
    no_wait: bool,
) -> list[str]:
    """Hashes of what was sent; final when this returns, unless `no_wait`. `wanted`: the calls that the node's
    `steps` must be (calls.py). Unprocessable, Unavailable."""
    from decentraspace.cli.calls import check
    from decentraspace.cli.sending import send

    if account is None or rpc is None:
        return []
    check(steps, wanted)
    hashes = send(rpc, account, steps)
    if not no_wait:
        _until_final(api, rpc, hashes[-1], quiet)
    return hashes


def _until_final(api: Api, rpc: str, digest: str, quiet: bool) -> None:
    import httpx

    from decentraspace.ledger.rpc import ask

    until, said = time.monotonic() + _FINAL, -1
    with httpx.Client(timeout=20.0) as client:
        block = int(ask(client, rpc, "eth_getTransactionReceipt", digest)["blockNumber"], 16)
    while time.monotonic() < until:
        final = api.get("/blockchain/credit/")["final_block"]
        if final is not None and final >= block:
            return
        if final is not None and final != said:
            note(f"Sent in block {block}; the node has {final} as final.", quiet)
            said = final
        time.sleep(_EVERY)
    raise Unavailable(
        f"Block {block} is not final after {_FINAL:g} s.", hint="It counts as soon as it is: look later."
    )


def shown(steps: list[Any], hashes: list[str]) -> list[str]:
    if hashes:
        return [f"  Sent {one}" for one in hashes]
    lines = ["To be sent by your wallet, in this order:"] if steps else []
    for step in steps:
        whole = {"chainId": step["chain_id"], "to": step["to"], "value": step["value"], "data": step["data"]}
        lines.append(f"  {json.dumps(whole)}")
    return lines
