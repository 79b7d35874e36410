"""CIDs as bytes: binary CIDv1 in code, base32 text only at the edges.

A CID is `0x01 · codec varint · multihash`. CIDv0 is read as the CIDv1 (dag-pb) of the same multihash.
Source: https://github.com/multiformats/cid, https://github.com/multiformats/multihash.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

import base58

from decentraspace.errors import BadInput

RAW = 0x55
DAG_PB = 0x70
DAG_CBOR = 0x71
LIBP2P_KEY = 0x72
CBOR = 0x51
JSON = 0x0200
DAG_JSON = 0x0129
SHA2_256 = 0x12
SHA2_512 = 0x13
BLAKE2B_256 = 0xB220
IDENTITY = 0x00

MAX_BLOCK = 2 * 1024 * 1024  # bytes; what IPFS implementations agree to exchange
MAX_IDENTITY = 128  # bytes of inlined content
MAX_CID = 200  # bytes


def varint(value: int) -> bytes:
    """Unsigned LEB128. Source: https://github.com/multiformats/unsigned-varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, offset: int = 0) -> tuple[int, int]:
    """(value, offset behind it); at most nine bytes, shortest form only. BadInput otherwise."""
    value = shift = 0
    for position in range(offset, min(offset + 9, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and position > offset:
                raise BadInput("A varint is not in its shortest form")
            return value, position + 1
        shift += 7
    raise BadInput("A varint is cut off or too long")


def make(codec: int, data: bytes) -> bytes:
    """The CIDv1 of a block with SHA2-256."""
    if codec < 0x80:
        return b"\x01" + bytes((codec,)) + b"\x12\x20" + hashlib.sha256(data).digest()
    return b"\x01" + varint(codec) + b"\x12\x20" + hashlib.sha256(data).digest()


def parts(cid: bytes) -> tuple[int, int, bytes]:
    """(codec, multihash code, digest). BadInput unless `cid` is exactly one well-formed CIDv1."""
    if not isinstance(cid, bytes):
        raise BadInput("Not a CID (version 1)")
    return (cid[1], SHA2_256, cid[4:]) if is_plain(cid) else _parts(cid)


@lru_cache(maxsize=256)
def _parts(cid: bytes) -> tuple[int, int, bytes]:
    if not cid or len(cid) > MAX_CID or cid[0] != 1:
        raise BadInput("Not a CID (version 1)")
    codec, offset = read_varint(cid, 1)
    code, offset = read_varint(cid, offset)
    length, offset = read_varint(cid, offset)
    digest = cid[offset:]
    if len(digest) != length:
        raise BadInput("The CID's digest has another length than it says")
    if code == IDENTITY and length > MAX_IDENTITY:
        raise BadInput(f"An identity CID carries {length} bytes; {MAX_IDENTITY} are allowed")
    return codec, code, digest


def validate(cid: bytes) -> bytes:
    """`cid` itself; BadInput unless it is one well-formed CIDv1."""
    parts(cid)
    return cid


def normal(binary: bytes) -> bytes:
    """The CIDv1 of a binary CID of either version. BadInput."""
    if binary[:2] == b"\x12\x20" and len(binary) == 34:
        return b"\x01\x70" + binary
    return validate(binary)


def codec(cid: bytes) -> int:
    return parts(cid)[0]


def is_plain(cid: bytes) -> bool:
    """Whether it is, beyond doubt, SHA2-256 under a codec of one byte: nearly every CID there is."""
    return len(cid) == 36 and cid[0] == 1 and cid[1] < 0x80 and cid[2:4] == b"\x12\x20"


def multihash(cid: bytes) -> bytes:
    """The part of a CID that names the bytes, whatever codec they are read with."""
    if is_plain(cid):
        return cid[2:]
    parts(cid)
    return cid[read_varint(cid, 1)[1] :]


def identity_data(cid: bytes) -> bytes | None:
    """The block itself when the CID inlines it (identity multihash), else None."""
    if is_plain(cid):
        return None
    _, code, digest = parts(cid)
    return digest if code == IDENTITY else None


def digest_matches(cid: bytes, data: bytes) -> bool:
    """Whether `data` is the block named by `cid`. BadInput for hash functions not known here."""
    _, code, digest = parts(cid)
    if code == SHA2_256:
        return hashlib.sha256(data).digest() == digest
    if code == SHA2_512:
        return hashlib.sha512(data).digest() == digest
    if code == BLAKE2B_256:
        return hashlib.blake2b(data, digest_size=32).digest() == digest
    if code == IDENTITY:
        return bytes(data) == digest
    raise BadInput(f"Hash function 0x{code:x} is not supported", hint="Use SHA2-256.")


def to_text(cid: bytes, base: str = "base32") -> str:
    """`b…` (base32 lower case) or, with base="base58btc", `z…`; base36 `k…` for names of keys."""
    if base == "base32":
        return "b" + base64.b32encode(cid).decode().rstrip("=").lower()
    if base == "base58btc":
        return "z" + str(base58.b58encode(cid).decode())
    if base == "base36":
        return "k" + _to_base36(cid)
    raise ValueError(f"unknown base {base}")


def parse(text: str) -> bytes:
    """Binary CIDv1 of a text CID: base32 `b…`/`B…`, base58 `z…`, base36 `k…`, hex `f…`, or CIDv0 `Qm…`."""
    try:
        if not 2 <= len(text) <= 2 * MAX_CID or not text.isascii():
            raise ValueError("length")
        if text.startswith("Qm") and len(text) == 46:
            raw = _from_base58(text)
            return normal(raw)
        prefix, rest = text[0], text[1:]
        if prefix in "bB":
            body = rest.upper() if prefix == "b" and rest == rest.lower() else rest
            if body != body.upper():
                raise ValueError("case")
            raw = base64.b32decode(body + "=" * (-len(body) % 8))
        elif prefix == "z":
            raw = _from_base58(rest)
        elif prefix in "kK":
            raw = _from_base36(rest)
        elif prefix in "fF":
            raw = base64.b16decode(rest, casefold=True)
        else:
            raise ValueError("base")
        return validate(raw)
    except (ValueError, BadInput) as error:
        raise BadInput(f"{text[:80]!r} is not a CID ({error})") from error


_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def _from_base58(text: str) -> bytes:
    if not text.isalnum():
        raise ValueError("base58")  # the decoder would strip blanks
    return bytes(base58.b58decode(text))


def _to_base36(data: bytes) -> str:
    number, out = int.from_bytes(data, "big"), ""
    while number:
        number, rest = divmod(number, 36)
        out = _BASE36[rest] + out
    return "0" * (len(data) - len(data.lstrip(b"\0"))) + out


def _from_base36(text: str) -> bytes:
    if not text.isalnum():
        raise ValueError("base36")  # int() would let signs, blanks and underscores pass
    number = int(text.lower(), 36)
    zeros = len(text) - len(text.lstrip("0"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
