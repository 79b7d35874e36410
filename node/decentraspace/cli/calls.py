"""What a wallet signs of what a node has prepared: the calls that were asked for, and no others.

Nodes are other people's. Which contracts there are a node may say; what is called in them, for whom and with which
amounts, is made here again and compared, so that none has a wallet sign away what it was not asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from decentraspace.errors import Unprocessable
from decentraspace.identity.ethereum import keccak256

_WORD = 32


def call(function: str, *arguments: int | str) -> str:
    """Call data, 0x and hex digits. `function` as "deposit(uint256)"; numbers and addresses as integers; a text is
    the only argument. Source: Solidity's contract ABI specification."""
    encoded = b""
    for one in arguments:
        if isinstance(one, int):
            encoded += one.to_bytes(_WORD, "big")
        else:
            text = one.encode()
            padding = bytes(-len(text) % _WORD)
            encoded += _WORD.to_bytes(_WORD, "big") + len(text).to_bytes(_WORD, "big") + text + padding
    return "0x" + (keccak256(function.encode())[:4] + encoded).hex()


def address(text: Any) -> int:
    """As an argument of `call`."""
    try:
        return int(str(text), 16)
    except ValueError:
        raise _other() from None


def site(text: Any) -> int:
    """A site's id as an argument of `call`."""
    try:
        return int.from_bytes(base64.b32decode(str(text).upper()), "big")
    except ValueError:
        raise _other() from None


def check(steps: Sequence[Any], wanted: Sequence[str]) -> None:
    """Unprocessable unless the transactions are these calls, and pay nothing along with them."""
    try:
        good = [(str(step["data"]).lower(), int(step["value"])) for step in steps] == [(c, 0) for c in wanted]
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise _other()


def _other() -> Unprocessable:
    return Unprocessable(
        "The node has prepared other transactions than were asked for. Nothing was signed.",
        hint="Use another node, and tell its operator.",
    )
