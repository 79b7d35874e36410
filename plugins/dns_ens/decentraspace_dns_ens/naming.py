"""Names of ENS: their one spelling (ENSIP-15), their hash (EIP-137), their wire format (ENSIP-10). Pure.

A browser writes letters beyond ASCII as `xn--…` (RFC 3492). Such a label is read back, and must then be what
ENSIP-15 makes of it: a look-alike of a name is no other spelling of it, but nobody's.
"""

from __future__ import annotations

import re

from sha3 import keccak_256

from decentraspace.errors import BadInput, Unavailable

_NAME_MOST, _LABEL_MOST = 253, 255  # characters; bytes of a label's wire format
# What ENSIP-15 leaves as it is without a look into its tables, which take 95 MB of memory.
_PLAIN = re.compile(r"(?!..--)_*[a-z0-9-]+")
_ACE = "xn--"


def keccak256(data: bytes) -> bytes:
    return bytes(keccak_256(data).digest())


def normal(name: str) -> str:
    """The spelling that is hashed. BadInput, in words, for what no name of ENS can be."""
    name = name.removesuffix(".")
    if not 0 < len(name) <= _NAME_MOST:
        raise BadInput(f"A name of ENS has 1 to {_NAME_MOST} characters here")
    labels = name.lower().split(".") if name.isascii() else name.split(".")
    read = ".".join(_read(label) for label in labels)
    if not all(_PLAIN.fullmatch(label) for label in read.split(".")):
        read = _by_table(read, exactly=any(label.startswith(_ACE) for label in labels))
    if any(len(label.encode()) > _LABEL_MOST for label in read.split(".")):
        raise BadInput(f"A label of {name[:60]!r} is too long")
    return read


def _read(label: str) -> str:
    if not label.startswith(_ACE):
        return label
    try:
        read = label[len(_ACE) :].encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError) as error:
        raise BadInput(f"{label[:70]!r} is no label of a name: its letters cannot be read") from error
    if read.isascii() or "." in read:
        raise BadInput(f"{label[:70]!r} is no label of a name: nothing in it is beyond ASCII")
    return read


def _by_table(name: str, *, exactly: bool) -> str:
    # Only now: see _PLAIN.
    try:
        from ens_normalize import DisallowedSequence, ens_normalize
    except ImportError as error:
        raise Unavailable(
            "Names beyond a-z, 0-9 and - cannot be read here", hint="Install ens-normalize beside the plugin."
        ) from error

    try:
        found = str(ens_normalize(name))
    except DisallowedSequence as error:
        why = str(getattr(error, "general_info", error))
        raise BadInput(f"{name[:70]!r} is no name of ENS: {why}"[:500]) from error
    if exactly and found != name:
        raise BadInput(f"{name[:70]!r} is not how ENS spells {found[:70]!r}")
    if not found:
        raise BadInput("That is no name of ENS")
    return found


def namehash(name: str) -> bytes:
    """Of a name in its one spelling; EIP-137."""
    node = bytes(32)
    for label in reversed(name.split(".")):
        node = keccak256(node + keccak256(label.encode()))
    return node


def wire(name: str) -> bytes:
    """A name in its one spelling as DNS writes it, with lengths before the labels and 0 at the end."""
    return b"".join(bytes([len(raw)]) + raw for raw in (label.encode() for label in name.split("."))) + b"\0"
