"""The IPNS records of sites, which their owners' clients sign and versions carry: by site and by name. Blocking."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from decentraspace.content import ipns
from decentraspace.records import codec, naming
from decentraspace.records.schema import SiteManifest
from decentraspace.records.store import RecordStore


class Published(NamedTuple):
    """`name`: binary, as in content/ipns.py; `record`: as IPFS has it; `until`: Unix seconds."""

    site_id: str
    name: bytes
    record: bytes
    until: int

    @property
    def text(self) -> str:
        return ipns.name_text(self.name)

    @property
    def valid(self) -> bool:
        return self.until > time.time()


def of_site(records: RecordStore, site_id: str) -> Published | None:
    """That of the newest version that carries one. It may be over: names outlive their records."""
    found = records.naming_version(site_id)
    if found is None:
        return None
    cid, issued_at = found
    block = records.record(cid)
    body = codec.decode_record(block).body if block is not None else None
    if not isinstance(body, SiteManifest) or body.ipns is None:
        return None
    key, until, *_ = body.ipns
    return Published(site_id, naming.name_of(key), naming.encoded(body, issued_at, body.ipns), until)


def by_name(records: RecordStore, name: bytes) -> Published | None:
    """Of the site whose name that is now. Two sites have one name only if their owner wanted it so."""
    key = naming.key_of(name)
    if key is None:
        return None
    found = (of_site(records, site) for site in records.sites_named(key))
    return next((p for p in found if p is not None and p.name == name), None)


def current(records: RecordStore, holds: Callable[[bytes], bool]) -> list[tuple[bytes, bytes]]:
    """(name, record) of each site whose newest version this node holds: to be published elsewhere, such as in a
    DHT. `holds`: whether a version (CID of its manifest) is held. The multihash of `name` is the name's key there."""
    result = []
    for head in records.all_heads():
        if holds(head.cid) and head.channel == "production":
            found = of_site(records, head.site_id)
            if found is not None and found.valid:
                result.append((found.name, found.record))
    return result
