"""The kinds of records: what their bodies hold and what makes a body well formed.

    site         a version of a site, signed by a session key of its owner
    revocation   takes a session key's power back, signed by a newer session key of the same owner
    node         who a node is and where it answers, signed by the node
    receipt      a node's statement that it holds every block of a root, signed by the node

Owners are 20 bytes, keys 32, CIDs binary; times are Unix seconds, sizes bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar
from urllib.parse import urlsplit

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput

MAX_SEQ = 2**53 - 1  # what every JSON reader can hold
MAX_TIME = 2**40
MAX_HOLDERS = 64
MAX_LABEL = 45  # with "--" and the site id it fills one DNS label of 63
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_CHANNEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_SITE = re.compile(r"[a-z2-7]{16}")
PRODUCTION = "production"


def site_id(owner: bytes, label: str) -> str:
    """First 80 bits of SHA-256(owner · label), base32, lower case: 16 characters."""
    digest = hashlib.sha256(owner + label.encode()).digest()
    return base64.b32encode(digest[:10]).decode().lower()


def check_label(label: str) -> str:
    """BadInput unless `label` can be the first part of a site's host name (RFC 1035, without `--`)."""
    if not isinstance(label, str) or len(label) > MAX_LABEL or not _LABEL.fullmatch(label) or "--" in label:
        raise BadInput(
            f"{str(label)[:80]!r} cannot be a site's label",
            hint=f"Use up to {MAX_LABEL} of a-z, 0-9 and single hyphens inside.",
        )
    return label


def check_channel(channel: str) -> str:
    if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
        raise BadInput(f"{str(channel)[:80]!r} cannot be a channel's name (a-z, 0-9, hyphens; up to 32)")
    return channel


def _raw(value: Any, length: int, name: str) -> None:
    if not isinstance(value, bytes) or len(value) != length:
        raise BadInput(f"{name} must be {length} bytes")


def _int(value: Any, least: int, most: int, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadInput(f"{name} must be a whole number from {least} to {most}")


def _text(value: Any, most: int, name: str) -> None:
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise BadInput(f"{name} must be a text of at most {most} characters")


def _cid(value: Any, name: str) -> None:
    if not isinstance(value, bytes):
        raise BadInput(f"{name} must be a CID")
    cids.validate(value)


@dataclass(frozen=True)
class SiteManifest:
    """A version of a site. `channel` is `production` or a preview's name; each has its own chain of
    versions, numbered 1, 2, 3 …, each naming the one before by `prev`."""

    kind_name: ClassVar[str] = "site"

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
        if (self.prev is None) != (self.seq == 1):
            raise BadInput("The first version names none before it, every other one does")
        if self.kind not in ("static", "dynamic"):
            raise BadInput("kind must be static or dynamic")
        _int(self.size, 0, MAX_SEQ, "size")
        if not isinstance(self.has_headers, bool) or not isinstance(self.has_redirects, bool):
            raise BadInput("has_headers and has_redirects must be true or false")
        if len(self.controllers) > 16:
            raise BadInput("A site has at most 16 controllers")
        for controller in self.controllers:
            _raw(controller, 20, "a controller")
        _int(self.created, 1, MAX_TIME, "created")


@dataclass(frozen=True)
class Revocation:
    """Voids what session key `key` signed beyond version `after` of `site`; of all sites when `site` is None."""

    kind_name: ClassVar[str] = "revocation"

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


def _url(value: Any, name: str) -> None:
    _text(value, 200, name)
    try:
        parts = urlsplit(value)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        ok = ok and not parts.query and not parts.fragment and (parts.port is None or parts.port > 0)
    except ValueError:
        ok = False
    if not ok:
        raise BadInput(f"{name} must be an http or https URL")


@dataclass(frozen=True)
class NodeAnnouncement:
    """`http`, `gateway`: base URLs; `addrs`: libp2p addresses; `operator`: a wallet or None; `capacity`:
    bytes of blocks; `prices`: credits by service; the highest `seq` of a node counts."""

    kind_name: ClassVar[str] = "node"

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
        _url(self.http, "http")
        _url(self.gateway, "gateway")
        if len(self.addrs) > 16:
            raise BadInput("A node has at most 16 addresses")
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
    `site` and `seq` say for which version of which site; `holders`: keys of other nodes whose receipts for
    `root` the signer has seen."""

    kind_name: ClassVar[str] = "receipt"

    root: bytes
    size: int
    site: str
    seq: int
    holders: tuple[bytes, ...]
    created: int

    def check(self) -> None:
        _cid(self.root, "root")
        if len(self.holders) > MAX_HOLDERS:
            raise BadInput(f"A receipt names at most {MAX_HOLDERS} holders")
        for holder in self.holders:
            _raw(holder, 32, "a holder")
        _int(self.size, 0, MAX_SEQ, "size")
        if not isinstance(self.site, str) or not _SITE.fullmatch(self.site):
            raise BadInput("site must be a site id")
        _int(self.seq, 1, MAX_SEQ, "seq")
        _int(self.created, 1, MAX_TIME, "created")


Body = SiteManifest | Revocation | NodeAnnouncement | Receipt
KINDS: dict[str, type[Any]] = {
    cls.kind_name: cls for cls in (SiteManifest, Revocation, NodeAnnouncement, Receipt)
}
OF_NODES = frozenset({"node", "receipt"})  # signed by a node's key, without a delegation


def to_map(body: Body) -> dict[str, Any]:
    """For DAG-CBOR: all fields, tuples as lists."""
    values = {f.name: getattr(body, f.name) for f in fields(body)}
    return {
        k: list(v) if isinstance(v, tuple) else dict(v) if isinstance(v, Mapping) else v
        for k, v in values.items()
    }


def from_map(kind: str, values: Any) -> Body:
    """BadInput unless `values` has exactly the fields of a `kind`, each well formed."""
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise BadInput(f"Records of kind {str(kind)[:40]!r} are not known")
    names = {f.name for f in fields(cls)}
    if not isinstance(values, dict) or set(values) != names:
        raise BadInput(f"A record of kind {kind} has other fields than it should")
    body: Body = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    try:
        body.check()
    except TypeError as error:
        raise BadInput(f"A record of kind {kind} has a field of a wrong type") from error
    return body
