"""The keys of sites' IPNS names, made from the wallet: the same wherever its owner logs in, and known to no node.

    seed       HKDF-SHA256 of the wallet's signature of `message`
    site key   Ed25519, HKDF-SHA256 of the seed and the site's id

Wallets sign by RFC 6979: the same text always gets the same signature. A login for one site is given that site's
key alone. Whoever has a key can sign for its name for ever: `generation` is how an owner gets away from them.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from decentraspace.identity.ethereum import checksum_address

_SALT = b"decentraspace-ipns-v1"


def message(owner: bytes, network: str, generation: int = 1) -> str:
    """What the wallet signs. Never change a letter of it: every name would become another."""
    return (
        "DecentraSpace: make the keys of the IPNS names of my sites.\n\n"
        "Sign this only in a program that you run yourself and trust. Whoever has this signature can "
        "change what these names show in IPFS, for ever.\n\n"
        f"Wallet: {checksum_address(owner)}\nNetwork: {network}\nGeneration: {generation}"
    )


def seed(signature: bytes) -> bytes:
    """32 bytes. `signature`: r, s and a last byte that wallets do not write alike."""
    return _derive(signature[:64], b"seed")


def site_seed(seed: bytes, site_id: str) -> bytes:
    """32 bytes: the private key of one site's name."""
    return _derive(seed, b"site:" + site_id.encode())


def site_key(site_seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(site_seed)


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, _SALT, info).derive(secret)
