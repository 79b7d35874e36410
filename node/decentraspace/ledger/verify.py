"""Checks a statement without the node that made it: pure functions over JSON.

Offline: use -> leaf -> usage root -> charge -> batch root, and the sums. With a receipt of the transaction: that
the contract has seen this root, and has paid for this allocation no more than the use listed. What a statement
cannot prove is that the use happened: that, the owner trusts the operator for, within the allocation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from decentraspace.errors import BadInput, Unprocessable
from decentraspace.identity.ethereum import keccak256, parse_address
from decentraspace.ledger.merkle import Tree, charge_leaf, root_from, usage_leaf
from decentraspace.ledger.statements import FORMAT

USES_MOST = 1_000_000
_PROOF_MOST = 64
_AMOUNT_MOST = 2**128
_HASH = re.compile(r"0x[0-9a-f]{64}")

# Of CreditVault; what is indexed is a topic.
BATCH_SETTLED = keccak256(b"BatchSettled(address,bytes32,uint256,uint256)")
SETTLED = keccak256(b"Settled(address,address,bytes32,uint256,uint256)")


@dataclass(frozen=True)
class Verified:
    """`credits`: what the uses shown come to; `whole`: all uses are shown, not some with proofs; `paid`: by the
    transaction under this allocation, None where no receipt was looked at."""

    uses: int
    credits: int
    cumulative: int
    whole: bool
    root: bytes
    paid: int | None = None


def _hash(value: Any, what: str) -> bytes:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise BadInput(f"The statement's {what} is no hash")
    return bytes.fromhex(value[2:])


def _amount(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < _AMOUNT_MOST:
        raise BadInput(f"The statement's {what} is no amount")
    return value


def _proof(value: Any) -> list[bytes]:
    if not isinstance(value, list) or len(value) > _PROOF_MOST:
        raise BadInput("A proof in the statement is no list of hashes")
    return [_hash(sibling, "proof") for sibling in value]


def check(document: Any) -> Verified:
    """BadInput for what is no statement, Unprocessable for one that does not hold together."""
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise BadInput("This is no statement", hint="A statement comes from /billing/history/ of a node.")
    allocation, usage_root = _hash(document.get("allocation"), "allocation"), document.get("usage_root")
    shown = _hash(usage_root, "usage_root")
    cumulative = _amount(document.get("cumulative"), "cumulative")
    previous = _amount(document.get("previous"), "previous")
    uses = document.get("usage")
    if not isinstance(uses, list) or not 0 < len(uses) <= USES_MOST:
        raise BadInput("The statement lists no use")
    leaves, credits, proofs = [], 0, []
    for use in uses:
        leaf, worth = _leaf(use)
        leaves.append(leaf)
        credits += worth
        if "proof" in use:
            proofs.append(root_from(leaf, _proof(use["proof"])))
    if len(set(leaves)) != len(leaves):
        raise Unprocessable("The statement lists a use twice")
    whole = not proofs
    if not whole and (len(proofs) != len(uses) or any(root != shown for root in proofs)):
        raise Unprocessable("A use in the statement does not lead to its usage root")
    if whole and Tree(leaves).root != shown:
        raise Unprocessable("The uses in the statement do not give its usage root")
    if whole and credits != cumulative - previous:
        raise Unprocessable(
            f"The uses come to {credits} credits, the statement charges {cumulative - previous}"
        )
    if credits > cumulative - previous:
        raise Unprocessable("The uses come to more than the statement charges")
    root = _hash(document.get("root"), "root")
    if root_from(charge_leaf(allocation, cumulative, shown), _proof(document.get("proof"))) != root:
        raise Unprocessable("The charge does not lead to the batch's root")
    return Verified(len(uses), credits, cumulative, whole, root)


def _leaf(use: Any) -> tuple[bytes, int]:
    if not isinstance(use, Mapping):
        raise BadInput("A use in the statement has a wrong form")
    site, service = use.get("site"), use.get("service")
    if not isinstance(site, str) or not isinstance(service, str):
        raise BadInput("A use in the statement has no site or no service")
    hour, quantity = _amount(use.get("hour"), "hour"), _amount(use.get("quantity"), "quantity")
    worth = _amount(use.get("credits"), "credits")
    return usage_leaf(site, hour, service, quantity, worth), worth


# -- against the chain


def check_receipt(document: Mapping[str, Any], verified: Verified, receipt: Any) -> int:
    """Credits that the transaction paid for this statement's allocation. `receipt`: JSON of
    eth_getTransactionReceipt. BadInput for what is none, Unprocessable where it says something else.

    Source: https://ethereum.org/en/developers/docs/apis/json-rpc/#eth_gettransactionreceipt
    """
    try:
        vault, operator = parse_address(document["vault"]), parse_address(document["operator"])
        owner, allocation = parse_address(document["owner"]), _hash(document["allocation"], "allocation")
        succeeded = int(receipt["status"], 16) == 1
        logs = [_log(entry) for entry in receipt["logs"] if parse_address(entry["address"]) == vault]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput("This is no receipt of a transaction of the statement's vault") from error
    if not succeeded:
        raise Unprocessable("The transaction failed, and settled nothing")
    batches = [data for topics, data in logs if topics[:2] == [BATCH_SETTLED, _topic(operator)]]
    roots = {word for words in batches for word in words[:1]}
    roots |= {
        topics[2] for topics, _ in logs if topics[:2] == [BATCH_SETTLED, _topic(operator)] and topics[2:]
    }
    if verified.root not in roots:
        raise Unprocessable("The transaction did not settle the batch with this root")
    wanted = [SETTLED, _topic(operator), _topic(owner), allocation]
    paid = [words for topics, words in logs if topics == wanted and len(words) == 2]
    amount = sum(int.from_bytes(words[0], "big") for words in paid)
    totals = [int.from_bytes(words[1], "big") for words in paid]
    if not paid:
        return 0
    if max(totals) != verified.cumulative:
        raise Unprocessable(
            f"The contract paid up to {max(totals)}, the statement says {verified.cumulative}"
        )
    if amount > verified.cumulative - document["previous"]:
        raise Unprocessable(
            f"The contract paid {amount} credits, the statement accounts for less: "
            f"{verified.cumulative - document['previous']}"
        )
    return amount


def _topic(address: bytes) -> bytes:
    return address.rjust(32, b"\0")


def _log(entry: Mapping[str, Any]) -> tuple[list[bytes], list[bytes]]:
    """(topics, words of the data)."""
    data = bytes.fromhex(entry["data"][2:])
    topics = [bytes.fromhex(topic[2:]) for topic in entry["topics"]]
    return topics, [data[place : place + 32] for place in range(0, len(data), 32)]
