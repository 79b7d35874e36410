"""Denylists in the compact format that IPFS operators share: a text of rules, one a line, as `Rule`s.

    read_header   what a list says about itself
    read_rules    its rules, in order; lines that are none are counted, not fatal
    exact, prefix, double   the digest by which a rule is found again (content/denied.py)

Bounds are those of the format: a header of 1 MiB, lines of 2 MiB. Nothing is kept but the line at hand.
Source: https://specs.ipfs.tech/compact-denylist-format/ (IPIP-383).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput, TooLarge

GONE, LEGAL = 410, 451
STATUSES = (GONE, LEGAL)
MAX_HEADER = 1024 * 1024  # bytes
MAX_LINE = 2 * 1024 * 1024  # bytes, with its end
MAX_PATH = 8192  # characters; no request has a longer one
VERSION = 1
_DIGEST = 20  # bytes kept: nobody finds two contents that agree in 160 bits
_HEX = re.compile(rb"[0-9a-fA-F]{64}")
_HEX_MULTIHASH = re.compile(rb"1220([0-9a-fA-F]{64})")
_BASE58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]{2,200}")
_ALPHABET = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = bytes.maketrans(_ALPHABET, bytes(range(58)))
_PAIRS = [chr(a) + chr(b) for a in _ALPHABET for b in _ALPHABET]
_DOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*"
)
_FIELD = re.compile(r"([A-Za-z0-9_.-]{1,100})[ \t]*:(?:[ \t]+(.*))?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

# Kinds of rules, as bits: what must be looked for at all.
EXACT, PREFIX, DOUBLE, LEGACY, NAMES = 1, 2, 4, 8, 16


class Rule(NamedTuple):
    """`digest`: 20 bytes to find it by; `kind`: which of the bits above; `status`: 410 or 451, 0 where it
    allows; `subject` and `length`: of a PREFIX rule, whose it is and how many bytes of path it compares;
    `below`: it is about a path, not about the content itself."""

    digest: bytes
    kind: int
    status: int
    subject: bytes = b""
    length: int = 0
    below: bool = False


@dataclass(frozen=True)
class Header:
    """`hints` hold for all rules; fields not known are ignored."""

    name: str = ""
    description: str = ""
    author: str = ""
    hints: dict[str, str] = field(default_factory=dict)


@dataclass
class Faults:
    """Lines that are no rules: how many, and the first few in words."""

    count: int = 0
    samples: list[str] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        self.count += 1
        if len(self.samples) < 10:
            self.samples.append(f"line {line}: {reason}")


# -- digests


def content(cid: bytes) -> bytes:
    """The subject of rules about content: its multihash, so the codec does not matter."""
    return b"c" + cids.multihash(cid)


def name(text: str) -> bytes:
    """The subject of rules about an IPNS name: a key's multihash, or a domain. BadInput."""
    try:
        return b"k" + _multihash(text)
    except BadInput:
        domain = text.lower().removesuffix(".")
        if not _DOMAIN.fullmatch(domain):
            raise
        return b"d" + domain.encode()


def exact(subject: bytes, path: str) -> bytes:
    """`path` without slashes at its ends."""
    return hashlib.sha256(b"=" + subject + b"/" + path.encode()).digest()[:_DIGEST]


def prefix(subject: bytes, start: bytes) -> bytes:
    """For rules that end in `*`."""
    return hashlib.sha256(b"*" + subject + b"/" + start).digest()[:_DIGEST]


def double(text: str) -> bytes:
    """For a double hash: `text` is what was hashed."""
    return hashlib.sha256(text.encode()).digest()[:_DIGEST]


def modern(subject: bytes, path: str) -> str:
    """What the double hash of today is over."""
    start = f"/ipns/{subject[1:].decode()}" if subject[:1] == b"d" else _to_base58(subject[1:])
    return f"{start}/{path}" if path else start


def double_hash(text: str) -> str:
    """The double hash as lists have it: a SHA2-256 multihash in base58btc."""
    return _to_base58(b"\x12\x20" + hashlib.sha256(text.encode()).digest())


# -- reading


def read_header(file: BinaryIO) -> tuple[Header, int]:
    """(header, number of its lines), with `file` at the first rule. BadInput for one that is no header, or
    of a version not known.

    A header ends with a line `---`; where none comes within 1 MiB there is no header. Of YAML this takes
    what headers are made of: one `key: value` a line, `hints` with such lines indented below it.
    """
    start = file.tell()
    lines: list[bytes] = []
    size = 0
    while line := file.readline(MAX_HEADER - size + 1):
        size += len(line)
        if size > MAX_HEADER:
            break
        if line.strip() == b"---":
            return _header(lines), len(lines) + 1
        lines.append(line)
    file.seek(start)
    return Header(), 0


def _header(lines: list[bytes]) -> Header:
    found: dict[str, str] = {}
    hints: dict[str, str] = {}
    section = ""
    for number, raw in enumerate(lines, 1):
        try:
            line = raw.decode().rstrip("\r\n \t")
        except UnicodeDecodeError as error:
            raise BadInput(f"Line {number} of the list's header is not UTF-8") from error
        inner = line.lstrip(" ")
        if not inner or inner.startswith("#"):
            continue
        indented = inner != line
        match = _FIELD.fullmatch(inner)
        if indented:
            if section == "hints":
                if match is None:
                    raise BadInput(f"Line {number} of the list's header is not KEY: VALUE")
                hints[match[1]] = _scalar(match[2] or "", number)
            elif not section:
                raise BadInput(f"Line {number} of the list's header is indented below nothing")
            continue  # of a field not known here, or a text over several lines
        if match is None:
            if inner.startswith("- ") and section:
                continue  # a list below a field not known here
            raise BadInput(f"Line {number} of the list's header is not KEY: VALUE")
        if match[1] in found:
            raise BadInput(f"Line {number} of the list's header says {match[1]} again")
        section = match[1]
        found[section] = _scalar(match[2] or "", number)
    version = found.get("version", "1")
    if version != str(VERSION):
        raise BadInput(f"The list is of version {version[:20]}; this program knows {VERSION}")
    return Header(found.get("name", ""), found.get("description", ""), found.get("author", ""), hints)


def _scalar(text: str, line: int) -> str:
    text = text.strip()
    if text[:1] in ('"', "'"):
        end = text.find(text[0], 1)
        rest = text[end + 1 :].strip()
        if end < 0 or (rest and not rest.startswith("#")):
            raise BadInput(f"Line {line} of the list's header has a quote that does not end")
        return text[1:end]
    return text.partition(" #")[0].rstrip()


def read_rules(file: BinaryIO, header: Header, first: int, faults: Faults) -> Iterator[tuple[int, Rule]]:
    """(line number, rule) for each rule from here on; a line may give two. `first`: number of the line
    before. TooLarge for a line beyond the format's bound: then nothing of the list is to be believed."""
    usual = _status(header.hints.get("gateway_status", ""), GONE)
    number = first
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise TooLarge(f"Line {number} of the list has more than {MAX_LINE} bytes")
        if line[:2] == b"//" and _HEX.fullmatch(line, 2, len(line.rstrip())):
            # Lists of a million lines consist of these.
            yield number, Rule(bytes.fromhex(line[2:42].decode()), DOUBLE | LEGACY, usual)
            continue
        line = line.strip()
        if not line or line[:1] == b"#":
            continue
        try:
            yield number, parse_rule(line.decode(), usual)
        except UnicodeDecodeError:
            faults.add(number, "it is not UTF-8")
        except BadInput as error:
            faults.add(number, str(error))


def parse_rule(line: str, usual: int = GONE) -> Rule:
    """One rule, with its hints. `usual`: the status where no hint `gateway_status` says another. BadInput."""
    item, *hints = line.split() or [""]
    status = usual
    for hint in hints:
        key, colon, value = hint.partition(":")
        if not colon or not key:
            raise BadInput(f"{hint[:40]!r} is not a hint of the form KEY:VALUE")
        if key == "gateway_status":
            status = _status(value, usual)
    if item.startswith("!"):
        item, status = item[1:], 0
    if item.startswith("//"):
        return _double(item[2:], status)
    for start, subject in (("/ipfs/", _content), ("/ipns/", name)):
        if item.startswith(start):
            return _path_rule(item[len(start) :], subject, status)
    raise BadInput("a rule begins with /ipfs/, /ipns/ or //")


def _status(text: str, usual: int) -> int:
    return int(text) if text in ("410", "451") else usual


def _double(text: str, status: int) -> Rule:
    raw = text.encode()
    if _HEX.fullmatch(raw):
        return Rule(bytes.fromhex(text)[:_DIGEST], DOUBLE | LEGACY, status)
    if found := _HEX_MULTIHASH.fullmatch(raw):
        return Rule(bytes.fromhex(found[1].decode())[:_DIGEST], DOUBLE, status)
    code, digest = _split(_base58(text))
    if code != cids.SHA2_256 or len(digest) != 32:
        raise BadInput(f"the double hash is by function 0x{code:x}; only SHA2-256 is looked for")
    return Rule(digest[:_DIGEST], DOUBLE, status)


def _path_rule(rest: str, subject_of: Callable[[str], bytes], status: int) -> Rule:
    who, _, path = rest.partition("/")
    subject = subject_of(who)
    names = NAMES if subject[:1] != b"c" else 0
    starred = path.endswith("*")
    if starred:
        path = path[:-1]
    if _ESCAPE.search(path):
        raise BadInput("a % in the path is not followed by two hexadecimal digits")
    try:
        path = unquote(path, errors="strict").strip("/")
    except UnicodeDecodeError as error:
        raise BadInput("the path is not UTF-8") from error
    if len(path) > MAX_PATH:
        raise BadInput(f"the path has more than {MAX_PATH} characters")
    if not starred:
        return Rule(exact(subject, path), EXACT | names, status, subject, 0, bool(path))
    start = path.encode()
    return Rule(prefix(subject, start), PREFIX | names, status, subject, len(start), bool(start))


def _content(text: str) -> bytes:
    return b"c" + _multihash(text)


def _multihash(text: str) -> bytes:
    """Of a CID of either version, or a multihash in base58btc."""
    try:
        return cids.multihash(cids.parse(text))
    except BadInput:
        found = _base58(text)
        _split(found)
        return found


def _base58(text: str) -> bytes:
    if not _BASE58.fullmatch(text):
        raise BadInput(f"{text[:80]!r} is neither a CID nor a hash")
    value = 0
    for digit in text.encode().translate(_DIGITS):
        value = value * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8, "big")


def _to_base58(data: bytes) -> str:
    """Several times as fast as the library: this is done for every block that is served."""
    value, pairs = int.from_bytes(data, "big"), []
    while value:
        value, rest = divmod(value, 3364)
        pairs.append(_PAIRS[rest])
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + "".join(reversed(pairs)).lstrip("1")


def _split(multihash: bytes) -> tuple[int, bytes]:
    """(code of the function, digest)."""
    code, offset = cids.read_varint(multihash)
    length, offset = cids.read_varint(multihash, offset)
    if len(multihash) - offset != length:
        raise BadInput("the hash has another length than it says")
    return code, multihash[offset:]
