"""The contracts' interfaces: calls encoded, answers and events decoded. The only module that loads web3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from eth_abi.exceptions import DecodingError
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import LogTopicError, MismatchedABI, Web3Exception
from web3.types import LogReceipt

from decentraspace.errors import BadInput, Unavailable
from decentraspace_billing_polygon.forms import Log


@cache
def _contract(name: str) -> Any:
    text = resources.files(__package__).joinpath("abi", f"{name}.json").read_text()
    return Web3().eth.contract(abi=json.loads(text))


@cache
def _events(name: str) -> dict[str, Any]:
    """By the hash of the signature."""
    return {event().topic.lower(): event for event in _contract(name).events}


def address(value: str) -> str:
    """With its checksum (EIP-55), as web3 wants them. BadInput if it is none."""
    try:
        return str(Web3.to_checksum_address(value))
    except (ValueError, TypeError) as error:
        raise BadInput(f"{value!r} is no address") from error


def encode(contract: str, function: str, arguments: Sequence[Any]) -> str:
    """The call's data as hex. BadInput for arguments that do not fit."""
    try:
        return str(_contract(contract).encode_abi(function, list(arguments)))
    except (Web3Exception, TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"These are no arguments of {contract}.{function}: {str(error)[:300]}") from error


def decode(contract: str, function: str, answer: str) -> tuple[Any, ...]:
    """What the function returned. Unavailable for what it cannot have returned."""
    outputs = _contract(contract).get_function_by_name(function).abi["outputs"]
    try:
        return tuple(Web3().codec.decode([_type(o) for o in outputs], bytes.fromhex(answer[2:])))
    except (DecodingError, OverflowError, UnicodeDecodeError) as error:
        raise Unavailable(f"{contract}.{function} answers in a wrong form: is its address right?") from error


def _type(output: dict[str, Any]) -> str:
    if not output["type"].startswith("tuple"):
        return str(output["type"])
    inner = ",".join(_type(part) for part in output["components"])
    return f"({inner}){output['type'][len('tuple') :]}"


def event(contract: str, log: Log) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of the event; None for one that the contract does not have."""
    found = _events(contract).get(log.topics[0]) if log.topics else None
    if found is None:
        return None
    raw: LogReceipt = {
        "address": address(log.address),
        "topics": [HexBytes(topic) for topic in log.topics],
        "data": HexBytes(log.data),
        "blockNumber": log.block,
        "blockHash": HexBytes(log.block_hash),
        "transactionHash": HexBytes(log.transaction),
        "transactionIndex": 0,
        "logIndex": log.index,
        "removed": False,
    }
    try:
        decoded = found().process_log(raw)
    except (LogTopicError, MismatchedABI, DecodingError, UnicodeDecodeError, OverflowError) as error:
        raise Unavailable(f"An event of {contract} is of a wrong form: is its address right?") from error
    return str(decoded["event"]), dict(decoded["args"])


@cache
def _errors() -> dict[str, str]:
    """Names of the contracts' errors by their selector, "0x…"."""
    found = {}
    for name in ("CreditVault", "OperatorRegistry", "SiteRegistry"):
        for entry in _contract(name).abi:
            if entry["type"] == "error":
                kinds = ",".join(_type(part) for part in entry["inputs"])
                found[Web3.keccak(text=f"{entry['name']}({kinds})").to_0x_hex()[:10]] = entry["name"]
    return found


def in_words(detail: str, data: str) -> str:
    """Why a call was refused: with the name of the contract's error, where `data` has one that is known."""
    name = _errors().get(data[:10].lower())
    return f"{detail} ({name})" if name and name not in detail else detail
