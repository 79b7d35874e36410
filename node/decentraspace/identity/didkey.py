"""`did:key` for Ed25519: a public key as text. Source: https://w3c-ccg.github.io/did-key-spec/."""

from __future__ import annotations

import base58

from decentraspace.errors import BadInput

_PREFIX = "did:key:z"
_ED25519 = b"\xed\x01"


def encode(public: bytes) -> str:
    """did:key:z6Mk… of 32 bytes."""
    return _PREFIX + str(base58.b58encode(_ED25519 + public).decode())


def decode(text: str) -> bytes:
    """32 bytes. BadInput for anything but a did:key with an Ed25519 key."""
    try:
        raw = base58.b58decode(text[len(_PREFIX) :]) if len(text) <= 80 else b""
    except ValueError:
        raw = b""
    # The decoder forgives blanks: only what `encode` writes is taken.
    if raw[:2] != _ED25519 or len(raw) != 34 or encode(bytes(raw[2:])) != text:
        raise BadInput(f"{text[:100]!r} is not a did:key with an Ed25519 key")
    return bytes(raw[2:])
