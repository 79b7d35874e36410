"""Names of the domain name system: which are worth asking anybody for, and what proves who may link them. Pure."""

from __future__ import annotations

import re

from decentraspace.errors import BadInput

PROOF_HOST = "_decentraspace"
PROOF_PREFIX = "decentraspace-owner="
_MOST = 253 - len(PROOF_HOST) - 1
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
# RFC 6761 and what networks use inside: no name server that others ask knows them.
_LOCAL = frozenset({"localhost", "local", "localdomain", "internal", "lan", "home", "corp", "invalid", "onion", "alt",
                    "arpa", "eth"})  # fmt: skip


def checked(name: str) -> str:
    """The name in its one spelling. BadInput for what cannot be a domain that others reach."""
    plain = name.lower().removesuffix(".")
    if not plain.isascii():
        raise BadInput(
            f"{name[:100]!r} has letters beyond ASCII",
            hint="Give the name in punycode (xn--…), as registrars show it.",
        )
    labels = plain.split(".")
    if len(plain) > _MOST:
        raise BadInput(f"The name has {len(plain)} characters; {_MOST} are allowed")
    if len(labels) < 2 or labels[-1] in _LOCAL or labels[-1].isdigit():
        raise BadInput(
            f"{plain[:100]} is no domain of DNS, and this node has no plugin set for names like it",
            hint="Ask a node whose operator has set one (names.resolvers).",
        )
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise BadInput(
            f"{plain[:100]} is no name of a host", hint="Letters, digits and hyphens, parted by dots."
        )
    return plain


def proof_host(name: str) -> str:
    return f"{PROOF_HOST}.{name}"


def proof(owner: str) -> str:
    """What the TXT record says. It names the wallet, so it is of use to nobody else."""
    return PROOF_PREFIX + owner.lower()


def owner_of(text: str) -> str | None:
    """The wallet that a TXT record names, lower case; None for a record that is about something else."""
    found = text.strip().lower()
    if not found.startswith(PROOF_PREFIX):
        return None
    owner = found.removeprefix(PROOF_PREFIX).strip()
    return owner if _ADDRESS.fullmatch(owner) else None
