"""The little of Ethereum that verifying a wallet's signature takes: Keccak, addresses, EIP-191 recovery.

Small libraries only (coincurve, safe-pysha3): eth-account would cost the node 40 MB.
"""

from __future__ import annotations

from sha3 import keccak_256

from decentraspace.errors import BadInput

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def keccak256(data: bytes) -> bytes:
    return bytes(keccak_256(data).digest())


def checksum_address(address: bytes) -> str:
    """20 bytes as 0x… with the capitals of EIP-55."""
    plain = address.hex()
    digest = keccak256(plain.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) > 7 else c for c, d in zip(plain, digest, strict=False))


def parse_address(text: str) -> bytes:
    """20 bytes of an address. BadInput unless all lower case, all upper case or right by EIP-55."""
    try:
        raw = bytes.fromhex(text[2:]) if text.startswith("0x") and len(text) == 42 else b""
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise BadInput(f"{text[:80]!r} is not an address (0x and 40 hexadecimal digits)")
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and checksum_address(raw) != text:
        raise BadInput(f"{text} has a wrong checksum (EIP-55): check the address")
    return raw


def personal_sign_digest(message: bytes) -> bytes:
    """The hash that wallets sign for a text. Source: EIP-191, version 0x45."""
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)


def recover_personal_sign(message: bytes, signature: bytes) -> bytes:
    """Address (20 bytes) of the key that signed `message`. As `recover` has it."""
    return recover(personal_sign_digest(message), signature)


def recover(digest: bytes, signature: bytes) -> bytes:
    """Address (20 bytes) of the key that signed 32 bytes: 65 bytes r, s, v with v 27 or 28 (or 0 or 1).

    BadInput for malformed signatures and for high s, of which each low-s signature has a twin (EIP-2).
    """
    if len(signature) != 65:
        raise BadInput("A wallet's signature has 65 bytes")
    recovery = signature[64] - 27 if signature[64] >= 27 else signature[64]
    if recovery not in (0, 1) or int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise BadInput("The wallet's signature is not in its canonical form")
    import coincurve

    try:
        key = coincurve.PublicKey.from_signature_and_message(
            signature[:64] + bytes((recovery,)), digest, hasher=None
        )
    except Exception as error:
        raise BadInput("The wallet's signature is not valid") from error
    return keccak256(key.format(compressed=False)[1:])[12:]
