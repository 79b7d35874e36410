"""`decentraspace credits`: buying, granting and withdrawing credits, by the wallet's key."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from decentraspace.cli.amounts import Amount, words_of
from decentraspace.cli.output import emit, json_option
from decentraspace.cli.signing import account_for, logged_in, node_option, sent, shown, signing
from decentraspace.errors import BadInput

_DAY = 86400
_TOKEN = "token"  # the way to pay that the wallet itself signs


@click.command()
@click.argument("amount", type=Amount())
@click.option("--method", default=_TOKEN, help="One of `decentraspace credits methods` (default: token).")
@signing
@node_option
@json_option
def recharge(
    amount: int,
    method: str,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    no_wait: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """Buy credits: AMOUNT is credits, or dollars as 5usd. Prints where to pay, or what your wallet is to send.

    \b
    Examples:
      decentraspace credits recharge 5usd --method paystack
      decentraspace credits recharge 5usd --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    from decentraspace.cli.calls import address, call

    account = account_for(keystore, key_stdin, rpc)
    if account is not None and method != _TOKEN:
        raise BadInput(f"A key is of use with --method {_TOKEN} alone.", hint="Leave it out.")
    with logged_in(node) as (api, saved):
        found = api.post("/billing/recharge/", {"method": method, "credits": amount})
        lines = [f"{words_of(amount)} for {saved.owner}: {found['status']}. {found['detail']}".rstrip()]
        if found["url"]:
            lines.append(f"Pay at {found['url']}")
        steps = found["transactions"]
        vault = address(steps[-1]["to"]) if steps else 0
        calls = [call("approve(address,uint256)", vault, amount), call("deposit(uint256)", amount)]
        hashes = sent(api, account, rpc, steps, calls, as_json, no_wait)
    lines += shown(steps, hashes)
    emit({**found, "sent": hashes}, "\n".join(lines), as_json)


@click.command()
@click.argument("cap", type=Amount())
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="For how long.")
@click.option("--rate", type=Amount(), default="0", help="Credits a second of it, for storage (default: 0).")
@signing
@node_option
@json_option
def grant(
    cap: int,
    days: int,
    rate: int,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    no_wait: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """Let this node's operator take CAP at most, as credits or as 5usd. It is reserved while the grant lasts.

    With a key and no --rpc, or when the wallet has no coins for gas, the grant is signed and the operator sends it.

    \b
    Examples:
      decentraspace credits grant 5usd --days 30
      decentraspace credits grant 5usd --keystore ~/wallet.json
      decentraspace credits grant 5usd --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    from decentraspace.cli import granting, sending
    from decentraspace.cli.calls import address, call

    account = account_for(keystore, key_stdin, rpc, alone=True)
    with logged_in(node) as (api, _):
        chain = api.get("/blockchain/credit/")
        start = int(time.time())
        arguments = {
            "operator": chain["operator"],
            "id": str(start),
            "cap": str(cap),
            "rate": str(rate),
            "start": start,
            "expires": start + days * _DAY,
        }
        made = api.post("/blockchain/credit/", {"action": "allocate", "arguments": arguments})
        handed: dict[str, Any] | None = None
        if account is not None and (rpc is None or not sending.has_coins(rpc, account, made)):
            signature = granting.sign(account, chain, arguments)
            handed = granting.hand_in(api, arguments, signature, as_json, no_wait)
            hashes = [handed["reference"]] if handed["reference"] else []
        else:
            terms = (start, cap, rate, start, start + days * _DAY)
            asked = call(
                "allocate(address,uint256,uint96,uint96,uint40,uint40)", address(chain["operator"]), *terms
            )
            hashes = sent(api, account, rpc, [made], [asked], as_json, no_wait)
    lines = [f"Grant {start}: {words_of(cap)} to {chain['operator']} for {days} days."]
    if handed is None:
        lines += shown([made], hashes)
    else:
        lines.append(f"  Signed; the operator sends it: {handed['status']}. {handed['detail']}".rstrip())
        lines += [f"  Sent {one}" for one in hashes]
    value = {"grant": arguments, "transactions": [made], "sent": hashes, "handed_in": handed}
    emit(value, "\n".join(lines), as_json)


@click.command()
@click.argument("number", metavar="GRANT")
@signing
@node_option
@json_option
def end(
    number: str,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    no_wait: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """End the grant of that number to this node's operator, after the notice that the contract gives it.

    \b
    Examples:
      decentraspace credits end 1767225600 --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    from decentraspace.cli.calls import address, call

    if not number.isascii() or not number.isdecimal() or int(number[:80]) >= 2**256:
        raise BadInput(
            f"{number[:40]!r} is no grant's number.", hint="`decentraspace credits balance` has them."
        )
    account = account_for(keystore, key_stdin, rpc)
    with logged_in(node) as (api, _):
        operator = api.get("/blockchain/credit/")["operator"]
        arguments = {"operator": operator, "id": number}
        made = api.post("/blockchain/credit/", {"action": "end_allocation", "arguments": arguments})
        asked = call("endAllocation(address,uint256)", address(operator), int(number))
        hashes = sent(api, account, rpc, [made], [asked], as_json, no_wait)
    text = "\n".join([f"Grant {number} to {operator} ends.", *shown([made], hashes)])
    emit({"grant": arguments, "transactions": [made], "sent": hashes}, text, as_json)


@click.command()
@click.argument("amount", type=Amount(), required=False)
@click.option("--to", "to", metavar="ADDRESS", help="Whom to pay what was asked for before (default: you).")
@click.option("--cancel", is_flag=True, help="Take back what was asked for.")
@signing
@node_option
@json_option
def withdraw(
    amount: int | None,
    to: str | None,
    cancel: bool,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    no_wait: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """Ask for AMOUNT out of the vault; without it, have what you asked for paid once its time has come.

    \b
    Examples:
      decentraspace credits withdraw 2usd --keystore ~/wallet.json --rpc https://polygon-rpc.example
      decentraspace credits withdraw --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    from decentraspace.cli.calls import address, call
    from decentraspace.identity.ethereum import checksum_address, parse_address

    if sum((amount is not None, to is not None, cancel)) > 1:
        raise BadInput("Name an amount, --to or --cancel, only one of them.")
    account = account_for(keystore, key_stdin, rpc)
    with logged_in(node) as (api, saved):
        whom = checksum_address(parse_address(to)) if to else saved.owner
        action, arguments, asked = "withdraw", {"to": whom}, call("withdraw(address)", address(whom))
        if cancel:
            action, arguments, asked = "cancel_withdrawal", {}, call("cancelWithdrawal()")
        elif amount is not None:
            action, arguments = "request_withdrawal", {"amount": str(amount)}
            asked = call("requestWithdrawal(uint256)", amount)
        made = api.post("/blockchain/credit/", {"action": action, "arguments": arguments})
        hashes = sent(api, account, rpc, [made], [asked], as_json, no_wait)
    text = "\n".join([f"{action.replace('_', ' ').capitalize()}.", *shown([made], hashes)])
    emit({"action": action, "transactions": [made], "sent": hashes}, text, as_json)
