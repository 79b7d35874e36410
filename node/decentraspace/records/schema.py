"""The kinds of records: what their bodies hold and what makes a body well formed.

    site         a version of a site, signed by a session key of its owner
    revocation   takes a session key's power back, signed by a newer session key of the same owner
    domain       what a name shows as far as a wallet has to say: a site of its own, or nothing
    node         who a node is and where it answers, signed by the node
    receipt      a node's statement that it holds every block of a root, signed by the node

Owners are 20 bytes, keys 32, CIDs binary; times are Unix seconds, sizes bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.records.cbor import Link
from decentraspace.records.naming import MAX_UNTIL, Carried

MAX_SEQ = 2**53 - 1  # what every JSON reader can hold
MAX_TIME = 2**40
MAX_HOLDERS = 64
MAX_REPLICAS = 1000
_HOST_LABEL = 63
MAX_LABEL = 45  # with "--" and the site id it fills one DNS label of 63
MAX_NAME = 253 - len("_decentraspace.")  # so that there is room for the name of its proof
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_PROOF = re.compile(r"[!-~]{1,500}")
_CHANNEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_SITE = re.compile(r"[a-z2-7]{16}")
# Spelt out, not left to urllib or str.isprintable, whose answers differ between versions of Python: a
# record must get the same verdict everywhere.
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?:/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*)?"
)
# Controls, line separators, marks that turn the direction of writing, and what is no character at all.
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\uffff]")
_RECORD_CID = b"\x01\x71\x12\x20"  # version 1, DAG-CBOR, SHA2-256 of 32 bytes
_BASE32 = [a + b for a in "abcdefghijklmnopqrstuvwxyz234567" for b in "abcdefghijklmnopqrstuvwxyz234567"]
"""Two characters for ten bits: every record's site is named by it, and the library takes thrice as long."""
PRODUCTION = "production"


def site_id(owner: bytes, label: str) -> str:
    """First 80 bits of SHA-256(owner · label), base32, lower case: 16 characters."""
    digest = hashlib.sha256(owner + label.encode()).digest()
    bits = int.from_bytes(digest[:10], "big")
    return "".join([_BASE32[bits >> at & 1023] for at in range(70, -1, -10)])


def check_label(label: str) -> str:
    """BadInput unless `label` can be the first part of a site's host name (RFC 1035, without `--`)."""
    if not isinstance(label, str) or len(label) > MAX_LABEL or not _LABEL.fullmatch(label) or "--" in label:
        raise BadInput(
            f"{str(label)[:80]!r} cannot be a site's label",
            hint=f"Use up to {MAX_LABEL} of a-z, 0-9 and single hyphens inside.",
        )
    return label


def check_name(name: str) -> str:
    """BadInput unless `name` is a host name in its one spelling: lower case, other scripts as Punycode (`xn--…`), no
    dot at its end, and no address (RFC 1035 section 2.3.4, RFC 1123 section 2.1)."""
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise BadInput(
            f"{str(name)[:80]!r} cannot be a name of a site",
            hint=f"Labels of a-z, 0-9 and hyphens inside, up to 63 each and {MAX_NAME} together.",
            slug="bad-name",
        )
    if name.rpartition(".")[2].isdigit():
        raise BadInput(f"{name[:80]!r} is an address, or looks like one", slug="bad-name")
    return name


def check_proof(proof: str) -> str:
    """BadInput unless `proof` can be handed in with a link: 1 to 500 printable characters of ASCII."""
    if not isinstance(proof, str) or not _PROOF.fullmatch(proof):
        raise BadInput(
            "The proof of a name must have 1 to 500 characters of ASCII, no spaces", slug="bad-name"
        )
    return proof


def check_channel(channel: str) -> str:
    if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
        raise BadInput(f"{str(channel)[:80]!r} cannot be a channel's name (a-z, 0-9, hyphens; up to 32)")
    return channel


def host_label(label: str, channel: str, site: str) -> str:
    """The first part of a channel's host name, up to 63 characters (RFC 1035 section 2.3.4).

    LABEL--ID in production, CHANNEL--LABEL--ID of a preview, whose LABEL is cut where that is too long. As no
    label has two hyphens together, no two channels of a site have the same.
    """
    if channel == PRODUCTION:
        return f"{label}--{site}"
    room = _HOST_LABEL - len(channel) - len(site) - 4
    return f"{channel}--{label[:room].rstrip('-')}--{site}"


def _raw(value: Any, length: int, name: str) -> None:
    if type(value) is not bytes or len(value) != length:
        raise BadInput(f"{name} must be {length} bytes")


def _int(value: Any, least: int, most: int, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadInput(f"{name} must be a whole number from {least} to {most}")


def _text(value: Any, most: int, name: str) -> None:
    if not isinstance(value, str) or len(value) > most or _NOT_TEXT.search(value):
        raise BadInput(f"{name} must be a text of at most {most} characters")


def _tuple(value: Any, most: int, name: str) -> None:
    if not isinstance(value, tuple) or len(value) > most:
        raise BadInput(f"{name} must be a list of at most {most}")


def _cid(value: Any, name: str) -> None:
    if not isinstance(value, bytes):
        raise BadInput(f"{name} must be a CID")
    cids.validate(value)


@dataclass(frozen=True)
class SiteManifest:
    """A version of a site. `channel` is `production` or a preview's name; each has its own chain of
    versions, numbered 1, 2, 3 …, each naming the one before by `prev`. `ipns`: naming.Carried, of production only
    and left out where there is none; that it is signed as it should be is not looked at here. `replicas`: how many
    nodes should hold it; left out, each node decides."""

    kind_name: ClassVar[str] = "site"
    links: ClassVar[tuple[str, ...]] = ("root", "prev")
    optional: ClassVar[tuple[str, ...]] = ("ipns", "replicas")

    owner: bytes
    label: str
    seq: int
    root: bytes
    prev: bytes | None
    channel: str
    kind: str
    size: int
    has_headers: bool
    has_redirects: bool
    controllers: tuple[bytes, ...]
    created: int
    ipns: Carried | None = None
    replicas: int | None = None

    @property
    def site_id(self) -> str:
        return site_id(self.owner, self.label)

    def check(self) -> None:
        _raw(self.owner, 20, "owner")
        check_label(self.label)
        check_channel(self.channel)
        _int(self.seq, 1, MAX_SEQ, "seq")
        _cid(self.root, "root")
        if self.prev is not None:
            _cid(self.prev, "prev")
            if self.prev[:4] != _RECORD_CID or len(self.prev) != 36:
                raise BadInput("prev must be the CID of a record")
        if (self.prev is None) != (self.seq == 1):
            raise BadInput("The first version names none before it, every other one does")
        if self.kind not in ("static", "dynamic"):
            raise BadInput("kind must be static or dynamic")
        _int(self.size, 0, MAX_SEQ, "size")
        if not isinstance(self.has_headers, bool) or not isinstance(self.has_redirects, bool):
            raise BadInput("has_headers and has_redirects must be true or false")
        _tuple(self.controllers, 16, "controllers")
        for controller in self.controllers:
            _raw(controller, 20, "a controller")
        _int(self.created, 1, MAX_TIME, "created")
        if self.ipns is not None:
            self._check_ipns(self.ipns)
        if self.replicas is not None:
            _int(self.replicas, 1, MAX_REPLICAS, "replicas")

    def _check_ipns(self, carried: Any) -> None:
        if self.channel != PRODUCTION:
            raise BadInput("Only versions of production carry a record of the site's name")
        if not isinstance(carried, tuple) or len(carried) != 4:
            raise BadInput("ipns must be a list of key, time and two signatures")
        key, until, *signatures = carried
        _raw(key, 32, "ipns: the key")
        _int(until, 1, MAX_UNTIL, "ipns: the time")
        for signature in signatures:
            _raw(signature, 64, "ipns: a signature")


@dataclass(frozen=True)
class Revocation:
    """Voids what session key `key` signed beyond version `after` of `site`; of all sites when `site` is None."""

    kind_name: ClassVar[str] = "revocation"
    links: ClassVar[tuple[str, ...]] = ()

    owner: bytes
    key: bytes
    site: str | None
    after: int
    created: int

    def check(self) -> None:
        _raw(self.owner, 20, "owner")
        _raw(self.key, 32, "key")
        if self.site is not None and (not isinstance(self.site, str) or not _SITE.fullmatch(self.site)):
            raise BadInput("site must be a site id")
        _int(self.after, 0, MAX_SEQ, "after")
        if self.site is None and self.after != 0:
            raise BadInput("A sequence number goes with one site")
        _int(self.created, 1, MAX_TIME, "created")


@dataclass(frozen=True)
class DomainLink:
    """The wallet `owner` has `name` show the production channel of its site; with `founder` and `label` left out,
    nothing. Whether the wallet has a say in that name, no record can tell (names/proofs.py). `founder` and `label`:
    of which the site's id is made; that the site is `owner`'s, the chain says, as for versions. Of a wallet's links of
    one name the one with the newest delegation counts, then the highest number, then the lowest CID. `proof`: what the
    name's own system signed for the wallet, where its proof is of that sort, as that system writes it."""

    kind_name: ClassVar[str] = "domain"
    links: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ("founder", "label", "proof")

    owner: bytes
    name: str
    seq: int
    created: int
    founder: bytes | None = None
    label: str | None = None
    proof: str | None = None

    @property
    def site_id(self) -> str | None:
        return site_id(self.founder, self.label) if self.founder and self.label else None

    def check(self) -> None:
        _raw(self.owner, 20, "owner")
        check_name(self.name)
        _int(self.seq, 1, MAX_SEQ, "seq")
        _int(self.created, 1, MAX_TIME, "created")
        if (self.founder is None) != (self.label is None):
            raise BadInput("founder and label go together")
        if self.founder is not None:
            _raw(self.founder, 20, "founder")
        if self.label is not None:
            check_label(self.label)
        if self.proof is not None:
            check_proof(self.proof)
            if self.label is None:
                raise BadInput("A proof goes with a site")


def _url(value: Any, name: str) -> None:
    _text(value, 200, name)
    match = _URL.fullmatch(value)
    if not match or int(match["port"] or 0) > 65535:
        raise BadInput(f"{name} must be an http or https URL")


@dataclass(frozen=True)
class NodeAnnouncement:
    """`http`, `gateway`: base URLs, "" where others cannot reach it; `addrs`: libp2p addresses; `operator`:
    a wallet or None; `capacity`: bytes of blocks, 0 from a node that takes no sites;
    `prices`: credits by service; the highest `seq` of a node counts."""

    kind_name: ClassVar[str] = "node"
    links: ClassVar[tuple[str, ...]] = ()

    http: str
    gateway: str
    addrs: tuple[str, ...]
    operator: bytes | None
    capacity: int
    prices: Mapping[str, int]
    name: str
    seq: int
    created: int

    def check(self) -> None:
        if self.http != "":
            _url(self.http, "http")
        if self.gateway != "":
            _url(self.gateway, "gateway")
        _tuple(self.addrs, 16, "addrs")
        for address in self.addrs:
            _text(address, 200, "an address")
        if self.operator is not None:
            _raw(self.operator, 20, "operator")
        _int(self.capacity, 0, MAX_SEQ, "capacity")
        if not isinstance(self.prices, Mapping) or len(self.prices) > 32:
            raise BadInput("prices must be a map of at most 32 services")
        for service, price in self.prices.items():
            _text(service, 32, "a service")
            _int(price, 0, MAX_SEQ, "a price")
        _text(self.name, 64, "name")
        _int(self.seq, 1, MAX_SEQ, "seq")
        _int(self.created, 1, MAX_TIME, "created")


@dataclass(frozen=True)
class Receipt:
    """The signer held every block of `root` (`size` bytes in all), verified and on disk, at time `created`.
    `site`, `channel` and `seq` say for which version of what; `holders`: keys of other nodes whose receipts
    for `root` the signer has seen. With `held` false it takes the receipt back: `root` is let go."""

    kind_name: ClassVar[str] = "receipt"
    links: ClassVar[tuple[str, ...]] = ("root",)

    root: bytes
    size: int
    site: str
    channel: str
    seq: int
    holders: tuple[bytes, ...]
    held: bool
    created: int

    def check(self) -> None:
        _cid(self.root, "root")
        _tuple(self.holders, MAX_HOLDERS, "holders")
        for holder in self.holders:
            _raw(holder, 32, "a holder")
        _int(self.size, 0, MAX_SEQ, "size")
        if not isinstance(self.site, str) or not _SITE.fullmatch(self.site):
            raise BadInput("site must be a site id")
        check_channel(self.channel)
        if not isinstance(self.held, bool):
            raise BadInput("held must be true or false")
        _int(self.seq, 1, MAX_SEQ, "seq")
        _int(self.created, 1, MAX_TIME, "created")


Body = SiteManifest | Revocation | DomainLink | NodeAnnouncement | Receipt
KINDS: dict[str, type[Any]] = {
    cls.kind_name: cls for cls in (SiteManifest, Revocation, DomainLink, NodeAnnouncement, Receipt)
}
# By kind: names of all fields, and of those that may not be left out.
_FIELDS = {
    kind: (names, names - set(getattr(cls, "optional", ())))
    for kind, cls in KINDS.items()
    if (names := frozenset(f.name for f in fields(cls)))
}
OF_NODES = frozenset({"node", "receipt"})  # signed by a node's key, without a delegation


def to_map(body: Body) -> dict[str, Any]:
    """For DAG-CBOR: all fields, but for optional ones that are None; CIDs as links."""
    values = {f.name: getattr(body, f.name) for f in fields(body)}
    for name in getattr(body, "optional", ()):
        if values[name] is None:
            del values[name]
    return {k: Link(v) if k in body.links and v is not None else v for k, v in values.items()}


def from_map(kind: str, values: Any) -> Body:
    """BadInput unless `values` has exactly the fields of a `kind`, each well formed."""
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise BadInput(f"Records of kind {str(kind)[:40]!r} are not known")
    names, needed = _FIELDS[kind]
    if not isinstance(values, dict) or not needed <= values.keys() <= names:
        raise BadInput(f"A record of kind {kind} has other fields than it should")
    for name in getattr(cls, "optional", ()):
        if values.get(name, "") is None:
            raise BadInput("What there is not is left out")  # there would be two encodings of one thing
    body: Body = cls(**_read(values, cls.links))
    try:
        body.check()
    except TypeError as error:
        raise BadInput(f"A record of kind {kind} has a field of a wrong type") from error
    return body


def _read(values: dict[str, Any], links: tuple[str, ...]) -> dict[str, Any]:
    """As the kinds of records have them: links as bytes, lists as tuples."""
    result = {name: tuple(value) if type(value) is list else value for name, value in values.items()}
    for name in links:
        value = values[name]
        if isinstance(value, Link):
            result[name] = bytes(value)
        elif value is not None and type(value) is not list:
            raise BadInput(f"{name} must be a link")
    return result
