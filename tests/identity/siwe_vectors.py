"""Messages out of the fields that the vectors give, in the names that the vectors use."""

from __future__ import annotations

from typing import Any

from decentraspace.identity.siwe import SiweMessage

_NAMES = {
    "domain": "domain",
    "address": "address",
    "statement": "statement",
    "uri": "uri",
    "chainId": "chain_id",
    "nonce": "nonce",
    "issuedAt": "issued_at",
    "expirationTime": "expiration_time",
    "notBefore": "not_before",
    "requestId": "request_id",
    "resources": "resources",
}


def message_of(fields: dict[str, Any]) -> SiweMessage:
    """Fields that a message does not have (version, and what the vectors check with) are left out."""
    values = {ours: fields[theirs] for theirs, ours in _NAMES.items() if theirs in fields}
    values["chain_id"] = int(values["chain_id"])
    if "resources" in values:
        values["resources"] = tuple(values["resources"])
    return SiweMessage(**values)


def text_of(fields: dict[str, Any]) -> str:
    """The message as text, whatever the fields hold; what is missing leaves its line empty."""
    optional = [
        f"{title}: {fields[name]}"
        for name, title in (
            ("expirationTime", "Expiration Time"),
            ("notBefore", "Not Before"),
            ("requestId", "Request ID"),
        )
        if name in fields
    ]
    if "resources" in fields:
        optional += ["Resources:", *(f"- {r}" for r in fields["resources"])]
    required = [
        f"{title}: {fields[name]}" if name in fields else ""
        for name, title in (
            ("uri", "URI"),
            ("version", "Version"),
            ("chainId", "Chain ID"),
            ("nonce", "Nonce"),
            ("issuedAt", "Issued At"),
        )
    ]
    head = f"{fields.get('domain', '')} wants you to sign in with your Ethereum account:"
    return "\n".join(
        [head, fields.get("address", ""), "", fields["statement"], "", *required, *optional],
    )
