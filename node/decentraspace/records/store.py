"""All accepted records in SQLite, and what follows from them.

One writer, WAL, synchronous=FULL: a record that `add` returned for is on disk. The head of each site and
channel is recomputed from the set (state.py) in the transaction that changes the set, so that any order
of arrival ends in the same state.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from decentraspace.config import RecordsConfig
from decentraspace.content import cid as cids
from decentraspace.database import open_database, reading, transaction
from decentraspace.errors import DecentraSpaceError
from decentraspace.identity.keys import peer_id_of
from decentraspace.network.reconcile import Tree, tree_of
from decentraspace.records import chains, codec, verdict
from decentraspace.records.judging import Judged, judge
from decentraspace.records.revoked import RevokedKeys
from decentraspace.records.schema import PRODUCTION, NodeAnnouncement, Receipt, Revocation, SiteManifest
from decentraspace.records.sponsors import Sponsors
from decentraspace.records.state import Revoked, Version, equivocations
from decentraspace.records.tables import MIGRATIONS
from decentraspace.records.verdict import NetworkRules, RecordRefused, VerifiedRecord

_NODE_LIFETIME = 86400  # seconds after which an announcement that was not repeated no longer counts

FLAG_HEADERS, FLAG_REDIRECTS = 1, 2


class SiteHead(NamedTuple):
    """A version of a site. `refused`: why it does not count, None if it does; `key`: who signed it."""

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

    @property
    def host_label(self) -> str:
        """The first part of the site's host name."""
        return f"{self.label}--{self.site_id}"


@dataclass(frozen=True)
class AddResult:
    """`status`: accepted, known, or stale (a newer statement of that node is here); `heads`: those that
    changed by it. `removed`: (site, channel) pairs that have no head any more."""

    status: str
    record: VerifiedRecord
    heads: tuple[SiteHead, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()


class Statement(NamedTuple):
    """A record of a node. `body` is a NodeAnnouncement or a Receipt."""

    cid: bytes
    key: bytes
    body: Any
    record: bytes

    @property
    def peer_id(self) -> str:
        return peer_id_of(self.key)


class _Subject(NamedTuple):
    """What a node states something about, how its statements about it follow each other, and the root that
    it says it holds."""

    about: bytes
    rank: int
    root: bytes | None


def _subject(body: NodeAnnouncement | Receipt) -> _Subject:
    if isinstance(body, NodeAnnouncement):
        return _Subject(b"", body.seq, None)
    # One receipt of a node for each channel, so that their number does not grow with every deploy. Within
    # one second the later version counts, and taking back counts more than giving.
    rank = body.created << 21 | min(body.seq, 2**20 - 1) << 1 | (not body.held)
    return _Subject(f"{body.site}/{body.channel}".encode(), rank, body.root if body.held else None)


def _hash(cid: bytes) -> bytes:
    """A record's CID is four bytes that all records have in common, and this."""
    return cid[-32:]


def _charged(refusal: RecordRefused) -> bytes | None:
    """Who pays: only a sponsor that did sign can be held to account, and only for what it could know."""
    return refusal.sponsor if refusal.faulty else None


_COLUMNS = "site, channel, label, owner, seq, root, cid, prev, created, size, flags, refused, key"


class RecordStore:
    """Blocking and thread-safe."""

    def __init__(self, path: Path, rules: NetworkRules, config: RecordsConfig | None = None) -> None:
        self.rules = rules
        self._lock = threading.RLock()
        self._db = open_database(path, MIGRATIONS)
        self._nodes: dict[bytes, Statement] | None = None  # by key, once somebody asked
        self._announced: list[Statement] = []  # in the transaction under way
        self._tree: Tree | None = None  # of the records' hashes, once somebody asked
        self._added: list[bytes] = []  # CIDs, in the transaction under way
        self._removed: list[bytes] = []
        self._sponsors = Sponsors(self._db, config or RecordsConfig())
        self._revoked = RevokedKeys(self._db, self._lock)
        self.is_revoked = self._revoked.is_revoked

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._added, self._removed, self._announced = [], [], []
            with transaction(self._db):
                yield self._db
            if self._tree is not None:
                self._tree = self._tree.changed(map(_hash, self._added), map(_hash, self._removed))
            if self._nodes is not None:
                self._nodes.update((said.key, said) for said in self._announced)

    # -- taking records

    def add(self, envelope: bytes, *, now: int, joining: bool = False, local: bool = False) -> AddResult:
        """Verify and store one envelope. RecordRefused says why not; sponsors pay for refusals.

        `joining`: this node fetches what was there before it (see verdict.admit). `local`: this node is
        the sponsor, so no quota applies.
        """
        judged = self._judge(envelope, now, joining)
        if isinstance(judged, AddResult):
            return judged
        [result] = self.add_judged([judged], now=now, joining=joining, local=local)
        if isinstance(result, RecordRefused):
            raise result
        return result

    def add_many(
        self, envelopes: Sequence[bytes], *, now: int, joining: bool = False
    ) -> list[AddResult | RecordRefused]:
        """One result for each, in order. What `add` raises is among the results; one transaction for all."""
        judged = [self._judge(envelope, now, joining) for envelope in envelopes]
        stored = iter(
            self.add_judged([j for j in judged if not isinstance(j, AddResult)], now=now, joining=joining)
        )
        return [j if isinstance(j, AddResult) else next(stored) for j in judged]

    def add_judged(
        self,
        judged: Sequence[Judged | RecordRefused],
        *,
        now: int,
        joining: bool = False,
        local: bool = False,
    ) -> list[AddResult | RecordRefused]:
        """Store what judging.judge found valid, in one transaction, and have sponsors pay for the rest."""
        if not any(isinstance(j, Judged) or _charged(j) is not None for j in judged):
            return [j for j in judged if isinstance(j, RecordRefused)]
        results: list[AddResult | RecordRefused] = []
        with self._transaction() as db:
            for j in judged:
                if isinstance(j, Judged):
                    results.append(self._take(db, j, now, joining, local))
                    continue
                results.append(j)
                if (sponsor := _charged(j)) is not None:
                    self._sponsors.refused(sponsor, now)
        return results

    def _judge(self, envelope: bytes, now: int, joining: bool) -> AddResult | Judged | RecordRefused:
        try:
            decoded = codec.decode_envelope(envelope)
        except DecentraSpaceError as error:
            return RecordRefused(str(error), slug=error.problem_slug)
        known = self._known(codec.record_cid(decoded.record))
        return AddResult("known", known) if known else judge(decoded, self.rules, now, joining=joining)

    def _take(
        self, db: sqlite3.Connection, judged: Judged, now: int, joining: bool, local: bool
    ) -> AddResult | RecordRefused:
        envelope, record = judged
        # What a joining node fetches is dated by its sponsors over all the past.
        day = envelope.at if joining else now
        if self._is_stale(db, record):
            # Not charged: anybody who kept a node's old statements could use up its quota with them.
            return AddResult("stale", record)
        if not local:
            try:
                self._sponsors.charge(envelope.sponsor, day, len(envelope.raw))
            except RecordRefused as error:
                return error
        result, work = self._store(db, record, envelope, now)
        self._sponsors.worked(envelope.sponsor, day, work)
        return result

    def _known(self, cid: bytes) -> VerifiedRecord | None:
        with self._lock, reading():
            row = self._db.execute("SELECT envelope FROM records WHERE cid = ?", (cid,)).fetchone()
        return verdict.verify(codec.decode_envelope(row[0]).record, self.rules) if row else None

    def _store(
        self, db: sqlite3.Connection, record: VerifiedRecord, envelope: codec.Envelope, now: int
    ) -> tuple[AddResult, int]:
        """What changed, and what work that was (chains.Settled)."""
        body = record.body
        added = db.execute(
            "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)",
            (record.cid, record.kind, record.key, envelope.raw, now),
        ).rowcount
        if not added:
            return AddResult("known", record), 0  # another thread was faster
        self._added.append(record.cid)
        settled = chains.Settled([], 0)
        if isinstance(body, SiteManifest):
            flags = FLAG_HEADERS * body.has_headers + FLAG_REDIRECTS * body.has_redirects
            db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (
                    record.cid, body.site_id, body.channel, body.label, body.owner, body.seq, body.root,
                    body.prev, record.key, record.issued_at, body.created, body.size, flags,
                ),
            )  # fmt: skip
            settled = chains.added_version(db, record.cid)
        elif isinstance(body, Revocation):
            revoked = Revoked(body.key, record.key, record.issued_at, body.site, body.after)
            db.execute(
                "INSERT INTO revocations VALUES (?, ?, ?, ?, ?, ?, ?)",
                (record.cid, body.owner, *revoked),
            )
            settled = chains.added_revocation(db, body.owner, revoked)
            self._revoked.forget()
        else:
            self._replace_statement(db, record, body)
            if isinstance(body, NodeAnnouncement):
                self._announced.append(Statement(record.cid, record.key, body, envelope.record))
        heads, removed = [], []
        for site, channel in settled.changed:
            head = self.head(site, channel)
            if head is not None:
                heads.append(head)
            else:
                removed.append((site, channel))
        return AddResult("accepted", record, tuple(heads), tuple(removed)), settled.work

    def _is_stale(self, db: sqlite3.Connection, record: VerifiedRecord) -> bool:
        """Whether that node's newest statement about the thing is here; ties go to the lower CID."""
        if not isinstance(record.body, NodeAnnouncement | Receipt):
            return False
        about, rank, _ = _subject(record.body)
        old = db.execute(
            "SELECT rank, cid FROM statements WHERE kind = ? AND key = ? AND about = ?",
            (record.kind, record.key, about),
        ).fetchone()
        return old is not None and (-old[0], old[1]) < (-rank, record.cid)

    def _replace_statement(
        self, db: sqlite3.Connection, record: VerifiedRecord, body: NodeAnnouncement | Receipt
    ) -> None:
        about, rank, root = _subject(body)
        where = (record.kind, record.key, about)
        replaced = db.execute(
            "SELECT cid FROM statements WHERE kind = ? AND key = ? AND about = ?", where
        ).fetchone()
        if replaced is not None:
            db.execute("DELETE FROM records WHERE cid = ?", replaced)
            self._removed += replaced
        db.execute(
            "INSERT OR REPLACE INTO statements VALUES (?, ?, ?, ?, ?, ?)", (*where, rank, record.cid, root)
        )

    # -- questions

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

    def delegated_at(self, owner: bytes, key: bytes) -> int | None:
        """When the newest delegation was issued under which `key` signed a version known here."""
        found: int | None = self._all(
            "SELECT MAX(issued_at) FROM versions WHERE owner = ? AND key = ?", owner, key
        )[0][0]
        return found

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
        columns = ", ".join("versions." + name for name in _COLUMNS.split(", "))
        return [
            SiteHead(*row)
            for row in self._all(
                f"SELECT {columns} FROM heads JOIN versions USING (cid) WHERE heads.site > ? {condition} "  # noqa: S608
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

    def nodes(self, now: int) -> list[Statement]:
        """Announcements of the last 24 hours."""
        # Asked for whenever content is looked for: decoding all of them each time would cost too much.
        with self._lock:
            if self._nodes is None:
                self._nodes = {said.key: said for said in self._statements("statements.kind = 'node'")}
            found = list(self._nodes.values())
        return [s for s in found if s.body.created >= now - _NODE_LIFETIME]

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
        """Receipts of nodes that hold all of `root`, one of each node."""
        found = self._statements("statements.kind = 'receipt' AND statements.root = ?", root)
        return list({statement.key: statement for statement in found}.values())

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

    def tree(self) -> Tree:
        """The hashes of all records, 32 bytes each, for comparison with another node's: a snapshot."""
        tree = self._tree
        if tree is None:
            with self._lock:
                tree = self._tree = self._tree or tree_of(map(_hash, self.ids()))
        return tree

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

    def counts(self) -> dict[str, int]:
        """Records by kind."""
        return dict(self._all("SELECT kind, COUNT(*) FROM records GROUP BY kind"))
