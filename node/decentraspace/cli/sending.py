"""Signing transactions here and sending them through a JSON-RPC endpoint of the chain."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from decentraspace.errors import BadInput, Unavailable
from decentraspace.ledger.rpc import ask

_SECONDS = 20.0  # for an answer
_MINED = 300.0  # seconds until a transaction must be in a block
_EVERY = 0.5


def send(url: str, account: Any, transactions: Sequence[dict[str, Any]]) -> list[str]:
    """Sign with `account` (eth-account) and send each after the one before is in a block; their hashes.

    `transactions`: chain_id, to, data, value (decimal text). BadInput for another chain, and for one that the
    contract refuses; Unavailable.
    """
    import httpx

    sent: list[str] = []
    with httpx.Client(timeout=_SECONDS) as client:
        try:
            found = int(ask(client, url, "eth_chainId"), 16)
            for one in transactions:
                if one["chain_id"] != found:
                    raise BadInput(f"{url} is of chain {found}, the transaction of chain {one['chain_id']}.")
                sent.append(_send(client, url, account, one))
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{url} gives answers of a wrong form") from error
    return sent


def has_coins(url: str, account: Any, transaction: dict[str, Any]) -> bool:
    """Whether the wallet can pay the fee of one transaction, as `send` would send it. Unavailable."""
    import httpx

    with httpx.Client(timeout=_SECONDS) as client:
        try:
            coins = int(ask(client, url, "eth_getBalance", account.address, "latest"), 16)
            if not coins:
                return False  # some endpoints refuse to say what would cost such a wallet how much
            fees = _fees(client, url, account, transaction)
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{url} gives answers of a wrong form") from error
    return coins >= int(transaction["value"]) + fees["gas"] * fees["maxFeePerGas"]


def _fees(client: Any, url: str, account: Any, one: dict[str, Any]) -> dict[str, int]:
    call = {"from": account.address, "to": one["to"], "data": one["data"], "value": hex(int(one["value"]))}
    block = ask(client, url, "eth_getBlockByNumber", "latest", False)
    tip = int(ask(client, url, "eth_maxPriorityFeePerGas"), 16)
    return {
        "gas": int(ask(client, url, "eth_estimateGas", call), 16) * 5 // 4,
        "maxPriorityFeePerGas": tip,
        "maxFeePerGas": 2 * int(block["baseFeePerGas"], 16) + tip,
    }


def _send(client: Any, url: str, account: Any, one: dict[str, Any]) -> str:
    raw = account.sign_transaction(
        {
            "type": 2,
            "chainId": one["chain_id"],
            "nonce": int(ask(client, url, "eth_getTransactionCount", account.address, "pending"), 16),
            "to": one["to"],
            "data": one["data"],
            "value": int(one["value"]),
            **_fees(client, url, account, one),
        }
    ).raw_transaction
    digest = str(ask(client, url, "eth_sendRawTransaction", "0x" + bytes(raw).hex()))
    until = time.monotonic() + _MINED
    while time.monotonic() < until:
        receipt = ask(client, url, "eth_getTransactionReceipt", digest)
        if receipt is not None:
            if int(receipt["status"], 16) != 1:
                raise BadInput(f"The contract refused transaction {digest}.")
            return digest
        time.sleep(_EVERY)
    raise Unavailable(
        f"Transaction {digest} is in no block after {_MINED:g} s.",
        hint="Look it up before sending another: it may still come.",
    )
