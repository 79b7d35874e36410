"""What endpoints say, brought into one form that can be compared: plain tuples of integers and lower-case hex.

ValueError, KeyError or TypeError for anything that does not have the form of the Ethereum JSON-RPC API
(https://ethereum.github.io/execution-apis/).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_HEX = re.compile(r"0x[0-9a-fA-F]*")


class Block(NamedTuple):
    """`time` in Unix seconds, `base_fee` in wei per unit of gas."""

    number: int
    hash: str
    parent: str
    time: int
    base_fee: int


class Log(NamedTuple):
    """`index` within the block."""

    block: int
    block_hash: str
    transaction: str
    index: int
    address: str
    topics: tuple[str, ...]
    data: str


class Receipt(NamedTuple):
    """`ok`: not reverted."""

    transaction: str
    block: int
    block_hash: str
    ok: bool
    gas: int
    logs: tuple[Log, ...]


def quantity(value: Any) -> int:
    if not isinstance(value, str) or not _HEX.fullmatch(value) or not 2 < len(value) <= 66:
        raise ValueError("not a quantity")
    return int(value, 16)


def hexes(value: Any, size: int | None = None) -> str:
    """`size` in bytes, or any."""
    if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) % 2:
        raise ValueError("not bytes")
    if size is not None and len(value) != 2 + 2 * size:
        raise ValueError(f"not {size} bytes")
    return value.lower()


def block(value: Any) -> Block:
    return Block(
        quantity(value["number"]),
        hexes(value["hash"], 32),
        hexes(value["parentHash"], 32),
        quantity(value["timestamp"]),
        quantity(value.get("baseFeePerGas") or "0x0"),
    )


def block_or_none(value: Any) -> Block | None:
    return None if value is None else block(value)


def number_of(value: Any) -> int:
    """Of a block; 0 where there is none yet."""
    return 0 if value is None else quantity(value["number"])


def log(value: Any) -> Log:
    if value.get("removed"):
        raise ValueError("a log that was removed")
    topics = tuple(hexes(topic, 32) for topic in value["topics"])
    if len(topics) > 4:
        raise ValueError("more than 4 topics")
    return Log(
        quantity(value["blockNumber"]),
        hexes(value["blockHash"], 32),
        hexes(value["transactionHash"], 32),
        quantity(value["logIndex"]),
        hexes(value["address"], 20),
        topics,
        hexes(value["data"]),
    )


def logs(value: Any) -> tuple[Log, ...]:
    if not isinstance(value, list):
        raise TypeError("not a list of logs")
    return tuple(sorted(log(one) for one in value))


def receipt_or_none(value: Any) -> Receipt | None:
    if value is None or value["blockNumber"] is None:  # some nodes have one before it is mined
        return None
    return Receipt(
        hexes(value["transactionHash"], 32),
        quantity(value["blockNumber"]),
        hexes(value["blockHash"], 32),
        quantity(value["status"]) == 1,
        quantity(value["gasUsed"]),
        logs(value["logs"]),
    )


class Sent(NamedTuple):
    """A transaction of a block."""

    hash: str
    sender: str
    nonce: int


def sent(value: Any) -> tuple[Sent, ...]:
    """The transactions of a block that was asked for with all of them."""
    return tuple(
        Sent(hexes(one["hash"], 32), hexes(one["from"], 20), quantity(one["nonce"]))
        for one in value["transactions"]
    )
