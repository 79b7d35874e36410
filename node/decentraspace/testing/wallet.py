"""An Ethereum wallet of a test's own."""

from __future__ import annotations

import secrets

from decentraspace.identity.ethereum import checksum_address, keccak256, personal_sign_digest


class Wallet:
    """A key nobody else has, or the 32 bytes given.

    key      32 bytes: `decentraspace login --key-stdin` takes them in hexadecimal
    address  "0x…" with the capitals of EIP-55
    """

    def __init__(self, key: bytes | None = None) -> None:
        import coincurve

        self.key = secrets.token_bytes(32) if key is None else key
        self._private = coincurve.PrivateKey(self.key)
        public = self._private.public_key.format(compressed=False)[1:]
        self.address = checksum_address(keccak256(public)[12:])

    def sign(self, text: str) -> bytes:
        """The signature of a text that a person is shown: 65 bytes r, s, v with v 27 or 28. Source: EIP-191."""
        made = self._private.sign_recoverable(personal_sign_digest(text.encode()), hasher=None)
        return bytes(made[:64]) + bytes((27 + made[64],))
