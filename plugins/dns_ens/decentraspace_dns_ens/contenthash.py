"""What a name's `contenthash` says (EIP-1577, ENSIP-7), read and written. Pure.

e3 01  CID          ipfs-ns   /ipfs/CID
e5 01  CID          ipns-ns   /ipns/KEY, or /ipns/DOMAIN where the CID is nothing but the domain's text
others are known by name, and not served here
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from decentraspace.errors import BadInput

_IPFS, _IPNS = 0xE3, 0xE5
_OTHERS = {0xE4: "Swarm (bzz)", 0xB29910: "Arweave", 0xB19910: "Skynet", 0x1BC: "onion", 0x1BD: "onion3",
           0xE2: "IPLD", 0xE6: "ZeroNet"}  # fmt: skip
_DAG_PB, _RAW, _LIBP2P_KEY = 0x70, 0x55, 0x72
_IDENTITY, _SHA2_256 = 0x00, 0x12
_MOST = 512  # bytes
_DOMAIN = re.compile(
    r"(?=.{3,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
)
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Content(NamedTuple):
    """`kind`: "ipfs" (`value` is a CID), "ipns" (a key's name or a domain), "none". `why`: of nothing, in words."""

    kind: str
    value: str
    why: str = ""

    @property
    def path(self) -> str:
        return f"/{self.kind}/{self.value}" if self.value else ""


def read(raw: bytes) -> Content:
    """Whatever a resolver said."""
    if not raw:
        return Content("none", "", "it has no contenthash")
    if len(raw) > _MOST:
        return Content("none", "", f"its contenthash has more than {_MOST} bytes")
    try:
        space, rest = _varint(raw)
        if space not in (_IPFS, _IPNS):
            known = _OTHERS.get(space, f"a kind {hex(space)} that nobody here knows")
            return Content("none", "", f"its contenthash is of {known}, which this network does not serve")
        codec, hash_, digest = _cid(rest)
        return _ipfs(codec, hash_, digest) if space == _IPFS else _ipns(codec, hash_, digest)
    except ValueError as error:
        return Content("none", "", f"its contenthash cannot be read: {error}")


def write(path: str) -> bytes:
    """For /ipfs/CID or /ipns/KEY, as `setContenthash` takes it. BadInput for anything else."""
    _, _, rest = path.partition("/")
    space, _, value = rest.partition("/")
    if space not in ("ipfs", "ipns") or not value or "/" in value or not path.startswith("/"):
        raise BadInput(f"A name of ENS leads to /ipfs/CID or /ipns/KEY, not to {path[:100]!r}")
    try:
        cid = _parse(value)
        codec, hash_, digest = _cid(cid)
        content = (_ipfs if space == "ipfs" else _ipns)(codec, hash_, digest)
    except ValueError as error:
        raise BadInput(f"{value[:100]!r} is no {'CID' if space == 'ipfs' else 'key'}: {error}") from error
    if content.kind == "none":
        raise BadInput(f"{value[:100]!r} is no {'CID' if space == 'ipfs' else 'key'}: {content.why}")
    return (
        _varint_of(_IPFS if space == "ipfs" else _IPNS) + b"\x01" + _varint_of(codec) + _hashed(hash_, digest)
    )


def _ipfs(codec: int, hash_: int, digest: bytes) -> Content:
    if codec == _LIBP2P_KEY:
        raise ValueError("the key of an IPNS name, marked as content")
    if hash_ != _SHA2_256:
        raise ValueError(f"its hash is of kind {hex(hash_)}, not SHA-256")
    return Content("ipfs", _base32(b"\x01" + _varint_of(codec) + _hashed(hash_, digest)))


def _ipns(codec: int, hash_: int, digest: bytes) -> Content:
    if codec == _LIBP2P_KEY or (codec == _DAG_PB and hash_ == _SHA2_256):
        # The latter is how keys were written before they had a codec of their own.
        return Content("ipns", _base36(b"\x01" + _varint_of(_LIBP2P_KEY) + _hashed(hash_, digest)))
    if hash_ == _IDENTITY and codec in (_DAG_PB, _RAW):
        domain = digest.decode("ascii", "replace").lower()
        if _DOMAIN.fullmatch(domain):
            return Content("ipns", domain)
        raise ValueError("neither a key nor a domain")
    raise ValueError(f"a key of kind {hex(codec)}")


def _cid(raw: bytes) -> tuple[int, int, bytes]:
    """(codec, kind of the hash, the hash). ValueError."""
    if raw[:2] == b"\x12\x20" and len(raw) == 34:  # version 0
        return _DAG_PB, _SHA2_256, raw[2:]
    version, rest = _varint(raw)
    if version != 1:
        raise ValueError(f"a CID of version {version}")
    codec, rest = _varint(rest)
    hash_, rest = _varint(rest)
    size, digest = _varint(rest)
    if len(digest) != size or (hash_ == _SHA2_256 and size != 32) or not size:
        raise ValueError("a CID that is cut off, or too long")
    if hash_ not in (_SHA2_256, _IDENTITY):
        raise ValueError(f"its hash is of kind {hex(hash_)}, not SHA-256")
    return codec, hash_, digest


def _parse(text: str) -> bytes:
    """A CID's bytes, from base32, base36, or base58btc as of version 0 and of keys ("12D3…", "Qm…")."""
    if len(text) > 2 * _MOST:
        raise ValueError("too long")
    if text.startswith(("Qm", "12D3", "16U")):
        raw = _of_base(text, _BASE58)
        # A peer id that holds the key itself is the hash alone.
        return raw if raw[:2] == b"\x12\x20" else b"\x01" + _varint_of(_LIBP2P_KEY) + raw
    if text.startswith("b"):
        padded = text[1:].upper() + "=" * (-len(text[1:]) % 8)
        return base64.b32decode(padded)
    if text.startswith("k"):
        return _of_base(text[1:], _BASE36)
    if text.startswith("z"):
        return _of_base(text[1:], _BASE58)
    raise ValueError("it is written in none of base32, base36 and base58")


def _of_base(text: str, alphabet: str) -> bytes:
    number = 0
    for character in text:
        number = number * len(alphabet) + alphabet.index(character)
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base32(raw: bytes) -> str:
    return "b" + base64.b32encode(raw).decode().rstrip("=").lower()


def _base36(raw: bytes) -> str:
    number, text = int.from_bytes(raw, "big"), ""  # the first byte of a CID is 1: no zeros in front
    while number:
        number, digit = divmod(number, 36)
        text = _BASE36[digit] + text
    return "k" + text


def _hashed(hash_: int, digest: bytes) -> bytes:
    return _varint_of(hash_) + _varint_of(len(digest)) + digest


def _varint(raw: bytes) -> tuple[int, bytes]:
    """(number, what follows), of unsigned LEB128 in its shortest form; ValueError."""
    number = 0
    for place, byte in enumerate(raw[:9]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if byte == 0 and place:
                raise ValueError("a number is not in its shortest form")
            return number, raw[place + 1 :]
    raise ValueError("it is cut off")


def _varint_of(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
