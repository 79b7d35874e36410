"""What can be asked of the records a node has accepted: versions, heads, statements of nodes, records.

Every answer is what the last finished transaction left. Blocking and thread-safe.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from decentraspace.content import cid as cids
from decentraspace.database import reading
from decentraspace.identity.keys import peer_id_of
from decentraspace.records import codec, owned
from decentraspace.records.domains import Domains, Link
from decentraspace.records.ownership import Transfer
from decentraspace.records.schema import PRODUCTION, NodeAnnouncement, host_label
from decentraspace.records.state import Version, equivocations

FLAG_HEADERS, FLAG_REDIRECTS = 1, 2


class SiteHead(NamedTuple):
    """A version of a site. `owner`: who owns the site now; `refused`: why it does not count, None if it does; `key`:
    who signed it; `founder`: whose wallet the site's id is made of, and every manifest names; `wallet`: who
    delegated to `key`; `replicas`: how many nodes should hold it, as the record says, None if it says nothing."""

    site_id: str
    channel: str
    label: str
    owner: bytes
    seq: int
    root: bytes
    cid: bytes
    prev: bytes | None
    created: int
    size: int
    flags: int
    refused: str | None = None
    key: bytes = b""
    founder: bytes = b""
    wallet: bytes = b""
    replicas: int | None = None

    @property
    def host_label(self) -> str:
        """The first part of the host name of this channel of the site."""
        return host_label(self.label, self.channel, self.site_id)


class Statement(NamedTuple):
    """A record of a node. `body` is a NodeAnnouncement or a Receipt."""

    cid: bytes
    key: bytes
    body: Any
    record: bytes

    @property
    def peer_id(self) -> str:
        return peer_id_of(self.key)


_OWNER = (
    "COALESCE((SELECT t.owner FROM transfers AS t WHERE t.site = versions.site "
    "ORDER BY t.block DESC, t.place DESC LIMIT 1), versions.owner)"
)
_COLUMNS = (
    f"versions.site, versions.channel, label, {_OWNER}, seq, root, versions.cid, prev, created, size, flags, "
    "refused, key, versions.owner, wallet, replicas"
)

_MOST_HOLDERS = 1000  # of one root that are looked at; strangers can sign receipts for anything


class Questions:
    """Over an open database, one thread at a time."""

    def __init__(self, db: sqlite3.Connection, lock: AbstractContextManager[Any]) -> None:
        self._db, self._lock = db, lock
        self._domains = Domains(db)

    def _all(self, query: str, *arguments: Any) -> list[Any]:
        with self._lock, reading():
            return self._db.execute(query, arguments).fetchall()

    def head(self, site_id: str, channel: str = PRODUCTION) -> SiteHead | None:
        rows = self._all(
            f"SELECT {_COLUMNS} FROM versions WHERE cid = (SELECT cid FROM heads WHERE site = ? AND channel = ?)",  # noqa: S608
            site_id,
            channel,
        )
        return SiteHead(*rows[0]) if rows else None

    def at_host(self, host: str) -> SiteHead | None:
        """The newest version of the channel whose host name begins with `host`, or None."""
        site = host.rpartition("--")[2]
        for channel in self.channels(site):
            if channel == PRODUCTION or host.startswith(channel + "--"):
                head = self.head(site, channel)
                if head is not None and head.host_label == host:
                    return head
        return None

    def history(
        self,
        site_id: str,
        channel: str = PRODUCTION,
        limit: int = 1000,
        *,
        seq: int | None = None,
        below: tuple[int, bytes] | None = None,
    ) -> list[SiteHead]:
        """Versions known, newest number first, refused ones included (`refused` says why); -1: all.

        `seq`: only those of this number, of which there may be several. `below`: those behind this number
        and record CID; with an empty CID, from this number on.
        """
        condition = ""
        arguments: list[int | bytes] = []
        if seq is not None:
            condition = "AND seq = ? "
            arguments = [seq]
        if below is not None:
            condition += "AND seq <= ? AND (seq < ? OR cid > ?) "
            arguments += [below[0], *below]
        return [
            SiteHead(*row)
            for row in self._all(
                f"SELECT {_COLUMNS} FROM versions WHERE site = ? AND channel = ? {condition}"  # noqa: S608
                "ORDER BY seq DESC, cid LIMIT ?",
                site_id,
                channel,
                *arguments,
                limit,
            )
        ]

    def naming_version(self, site_id: str) -> tuple[bytes, int] | None:
        """(record CID, when its delegation was issued) of the newest version that counts and carries a record of
        the site's name."""
        rows = self._all(
            "SELECT names.cid, issued_at FROM versions JOIN names USING (cid) WHERE site = ? AND channel = ? "
            "AND refused IS NULL ORDER BY epoch DESC, issued_at DESC, seq DESC, names.cid LIMIT 1",
            site_id,
            PRODUCTION,
        )
        return (rows[0][0], rows[0][1]) if rows else None

    def sites_named(self, key: bytes) -> list[str]:
        """Sites that have versions which carry a record signed by a name's key (32 bytes)."""
        rows = self._all(
            "SELECT DISTINCT site FROM names JOIN versions USING (cid) WHERE names.key = ? LIMIT 16", key
        )
        return [row[0] for row in rows]

    def delegated_at(self, owner: bytes, key: bytes) -> int | None:
        """When the newest delegation was issued under which `key` signed a version known here."""
        found: int | None = self._all(
            "SELECT MAX(issued_at) FROM versions WHERE wallet = ? AND key = ?", owner, key
        )[0][0]
        return found

    def chain_owner(self, site_id: str) -> Transfer | None:
        """Who owns a site as the chain says, and since when; None where it says nothing."""
        with self._lock, reading():
            found = owned.transfers(self._db, site_id)
        return found[-1] if found else None

    def given_to(self, site_id: str) -> bytes | None:
        """Who owns a site as the chain says, or None."""
        found = self.chain_owner(site_id)
        return found.owner if found is not None else None

    def transfers(self, site_id: str) -> list[Transfer]:
        """All that the chain says of a site's owners, in its order."""
        with self._lock, reading():
            return owned.transfers(self._db, site_id)

    def owner_of(self, site_id: str) -> bytes | None:
        """As the chain says, and else the founder; None for a site that nothing is known of."""
        found = self.chain_owner(site_id)
        if found is not None:
            return found.owner
        rows = self._all("SELECT owner FROM versions WHERE site = ? LIMIT 1", site_id)
        return rows[0][0] if rows else None

    def versions(self, manifests: Sequence[bytes]) -> list[SiteHead]:
        """Those of these record CIDs that are versions known here."""
        found = [
            self._all(f"SELECT {_COLUMNS} FROM versions WHERE cid = ?", cid)  # noqa: S608
            for cid in manifests
        ]
        return [SiteHead(*rows[0]) for rows in found if rows]

    def is_named(self, root: bytes) -> bool:
        """Whether a version of a site that counts has this root."""
        return bool(self._all("SELECT 1 FROM versions WHERE root = ? AND refused IS NULL LIMIT 1", root))

    def sites(self, owner: bytes | None = None, *, after: str = "", limit: int = 1000) -> list[SiteHead]:
        """Heads of production and preview channels, by site id; `after` is the last site id of the page before."""
        condition = "AND heads.owner = ?" if owner is not None else ""
        arguments = [after, *([owner] if owner is not None else []), limit]
        return [
            SiteHead(*row)
            for row in self._all(
                f"SELECT {_COLUMNS} FROM heads JOIN versions USING (cid) WHERE heads.site > ? {condition} "  # noqa: S608
                "ORDER BY heads.site, heads.channel LIMIT ?",
                *arguments,
            )
        ]

    def all_heads(self) -> list[SiteHead]:
        return self.sites(limit=-1)

    def channels(self, site_id: str) -> list[str]:
        return [
            row[0] for row in self._all("SELECT channel FROM heads WHERE site = ? ORDER BY channel", site_id)
        ]

    def equivocations(self, site_id: str) -> list[tuple[bytes, bytes]]:
        """Evidence: pairs of manifests (CIDs) of a channel that one key signed with one number."""
        rows = self._all(
            "SELECT channel, cid, seq, prev, key, issued_at FROM versions AS v WHERE site = ?1 AND EXISTS ("
            "SELECT 1 FROM versions AS w WHERE w.site = ?1 AND w.channel = v.channel AND w.seq = v.seq "
            "AND w.key = v.key AND w.cid != v.cid)",
            site_id,
        )
        channels: dict[str, list[Version]] = {}
        for channel, *version in rows:
            channels.setdefault(channel, []).append(Version(*version))
        return sorted(pair for versions in channels.values() for pair in equivocations(versions))

    def announcement_of(self, key: bytes) -> NodeAnnouncement | None:
        """What that node said of itself last, however long ago."""
        found = self._statements("statements.kind = 'node' AND statements.key = ?", key)
        return found[0].body if found else None

    def sponsors_of(self, root: bytes, limit: int = 8) -> list[bytes]:
        """Keys of the nodes that took in the newest versions with this root: they had all of it then."""
        rows = self._all(
            "SELECT envelope FROM versions JOIN records USING (cid) WHERE root = ? AND refused IS NULL "
            "ORDER BY versions.created DESC LIMIT ?",
            root,
            limit,
        )
        return [codec.decode_envelope(row[0]).sponsor for row in rows]

    def receipts(self, root: bytes) -> list[Statement]:
        """Receipts of nodes that hold all of `root`, one of each node, of so many as may be looked at."""
        return self._statements(
            "statements.cid IN (SELECT MIN(cid) FROM statements WHERE kind = 'receipt' AND root = ? "
            "GROUP BY key LIMIT ?)",
            root,
            _MOST_HOLDERS,
        )

    def holders(self, root: bytes) -> list[bytes]:
        """Keys of the nodes with a receipt for `root`."""
        rows = self._all(
            "SELECT DISTINCT key FROM statements WHERE kind = 'receipt' AND root = ? LIMIT ?",
            root,
            _MOST_HOLDERS,
        )
        return [row[0] for row in rows]

    def signed_for(self, key: bytes) -> list[tuple[str, str, bytes]]:
        """(site id, channel, root) of all that a node says it holds."""
        rows = self._all(
            "SELECT about, root FROM statements WHERE kind = 'receipt' AND key = ? AND root IS NOT NULL", key
        )
        return [(*about.decode().split("/", 1), root) for about, root in rows]

    def receipt_of(self, key: bytes, site_id: str, channel: str) -> Statement | None:
        """What that node said last about a channel."""
        about = f"{site_id}/{channel}".encode()
        found = self._statements(
            "statements.kind = 'receipt' AND statements.key = ? AND about = ?", key, about
        )
        return found[0] if found else None

    def _statements(self, condition: str, *arguments: Any) -> list[Statement]:
        rows = self._all(
            "SELECT statements.cid, statements.key, envelope FROM statements JOIN records USING (cid) "  # noqa: S608
            f"WHERE {condition} ORDER BY statements.key",
            *arguments,
        )
        result = []
        for cid, key, envelope in rows:
            record = codec.decode_envelope(envelope).record
            result.append(Statement(cid, key, codec.decode_record(record).body, record))
        return result

    def ids(self) -> list[bytes]:
        """CIDs of all records, sorted."""
        return [row[0] for row in self._all("SELECT cid FROM records ORDER BY cid")]

    def envelopes(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those that are here, in the order asked."""
        with self._lock, reading():
            found = [
                self._db.execute("SELECT envelope FROM records WHERE cid = ?", (i,)).fetchone() for i in ids
            ]
        return [row[0] for row in found if row]

    def record(self, cid: bytes) -> bytes | None:
        """A record block by its CID."""
        found = self.envelopes([cids.validate(cid)])
        return codec.decode_envelope(found[0]).record if found else None

    def seen(self, cid: bytes) -> int | None:
        """When this node stored a record, in Unix seconds."""
        rows = self._all("SELECT seen FROM records WHERE cid = ?", cid)
        return int(rows[0][0]) if rows else None

    def sponsor(self, cid: bytes) -> bytes | None:
        """The key of the node that took a record in."""
        found = self.envelopes([cid])
        return codec.decode_envelope(found[0]).sponsor if found else None

    # -- names of sites: see domains.py

    def linked(self, name: str, wallet: bytes) -> Link | None:
        """The wallet's link of that name that is in force."""
        with self._lock, reading():
            return self._domains.in_force(name, wallet)

    def link(self, name: str, wallet: bytes) -> Link | None:
        """The one that counts, in force or not."""
        with self._lock, reading():
            return self._domains.counting(name, wallet)

    def link_number(self, name: str, wallet: bytes) -> int:
        """The highest number of the wallet's links of that name; 0 without one."""
        with self._lock, reading():
            return self._domains.number(name, wallet)

    def claimants(self, name: str, limit: int = 64) -> list[bytes]:
        """Wallets with links of that name, which may be over; in the order in which this node heard of them."""
        with self._lock, reading():
            return self._domains.claimants(name, limit)

    def names_of(self, wallet: bytes, after: str = "", limit: int = 100) -> list[str]:
        """Names that the wallet has links of, by alphabet, from the one behind `after` on."""
        with self._lock, reading():
            return self._domains.names(wallet, after, limit)

    def counts(self) -> dict[str, int]:
        """Records by kind."""
        return dict(self._all("SELECT kind, COUNT(*) FROM records GROUP BY kind"))
