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
from typing import NamedTuple

from decentraspace.config import RecordsConfig
from decentraspace.database import open_database, reading, transaction
from decentraspace.errors import DecentraSpaceError
from decentraspace.network.reconcile import Tree, tree_of
from decentraspace.records import chains, codec, owned, verdict
from decentraspace.records.domains import link_of
from decentraspace.records.judging import Judged, judge
from decentraspace.records.ownership import ENDED, NOT_OWNER, TRANSFERRED, Fact, Transfer
from decentraspace.records.questions import FLAG_HEADERS, FLAG_REDIRECTS, Questions, SiteHead, Statement
from decentraspace.records.revoked import RevokedKeys
from decentraspace.records.schema import DomainLink, NodeAnnouncement, Receipt, Revocation, SiteManifest
from decentraspace.records.sponsors import Sponsors
from decentraspace.records.state import Revoked, Version
from decentraspace.records.tables import MIGRATIONS
from decentraspace.records.verdict import NetworkRules, RecordRefused, VerifiedRecord

__all__ = ["FLAG_HEADERS", "FLAG_REDIRECTS", "AddResult", "RecordStore", "SiteHead", "Statement"]

_NODE_LIFETIME = 86400  # seconds after which an announcement that was not repeated no longer counts
# Seconds after which the statements of a node that has not been heard of for as long are forgotten, and not taken
# again. The same at all nodes: what one forgets and another does not would be offered at every exchange.
FORGET_AFTER = 30 * 86400
_FORGOTTEN = 1000  # statements in one transaction
# SQLite's cache in KiB, and pages of its log after which they are copied into the file: its own defaults, and
# while very many records come. Each record is put into a dozen trees, most of them at random places, and with
# 2 MiB in memory the same pages are written and read again ten times.
_CACHE, _LOG = 2000, 1000
_CACHE_OF_MANY, _LOG_OF_MANY = 32_000, 4000


@dataclass(frozen=True)
class AddResult:
    """`status`: accepted, known, or stale (a newer statement of that node is here); `heads`: those that
    changed by it. `removed`: (site, channel) pairs that have no head any more."""

    status: str
    record: VerifiedRecord
    heads: tuple[SiteHead, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()


class Followed(NamedTuple):
    """What facts of the chain changed: heads, channels without a head, and sites that have another owner."""

    heads: tuple[SiteHead, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    sites: tuple[str, ...] = ()


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


def _as_head(record: VerifiedRecord, body: SiteManifest) -> SiteHead:
    """What `head` answers when this version is the one, but for the site's owner."""
    flags = FLAG_HEADERS * body.has_headers + FLAG_REDIRECTS * body.has_redirects
    return SiteHead(
        body.site_id, body.channel, body.label, body.owner, body.seq, body.root, record.cid, body.prev,
        body.created, body.size, flags, None, record.key, body.owner, record.owner,
        body.replicas,
    )  # fmt: skip


def _hash(cid: bytes) -> bytes:
    """A record's CID is four bytes that all records have in common, and this."""
    return cid[-32:]


def _charged(refusal: RecordRefused) -> bytes | None:
    """Who pays: only a sponsor that did sign can be held to account, and only for what it could know."""
    return refusal.sponsor if refusal.faulty else None


class RecordStore(Questions):
    """Takes records, and answers questions. Blocking and thread-safe."""

    def __init__(self, path: Path, rules: NetworkRules, config: RecordsConfig | None = None) -> None:
        super().__init__(open_database(path, MIGRATIONS), threading.RLock())
        self.rules = rules
        self._nodes: dict[bytes, Statement] | None = None  # by key, once somebody asked
        self._announced: dict[bytes, Statement] = {}  # by key, in the transaction under way
        self._tree: Tree | None = None  # of the records' hashes, once somebody asked
        self._added: list[bytes] = []  # CIDs, in the transaction under way
        self._removed: list[bytes] = []
        self._settler = chains.Settler(self._db)  # of the transaction under way
        self._config = config or RecordsConfig()
        self._sponsors = Sponsors(self._db, self._config)
        self._revoked = RevokedKeys(self._db, self._lock)
        self._many = 0  # who brings very many records now
        self.is_revoked, self.revocations = self._revoked.is_revoked, self._revoked.standing

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._added, self._removed, self._announced = [], [], {}
            self._sponsors.forget()
            self._settler = chains.Settler(self._db)
            with transaction(self._db):
                yield self._db
                self._sponsors.write()
            if self._tree is not None:
                self._tree = self._tree.changed(map(_hash, self._added), map(_hash, self._removed))
            if self._nodes is not None:
                self._nodes.update(self._announced)

    # -- taking records

    @contextmanager
    def many(self) -> Iterator[None]:
        """To be held by whoever is about to add very many records: more memory, a third of the writing."""
        self._expect(1)
        try:
            yield
        finally:
            self._expect(-1)

    def _expect(self, more: int) -> None:
        with self._lock, reading():
            self._many += more
            cache, log = (_CACHE_OF_MANY, _LOG_OF_MANY) if self._many else (_CACHE, _LOG)
            self._db.execute(f"PRAGMA cache_size = -{cache}")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {log}").fetchone()

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
        cid = codec.record_cid(decoded.record)
        known = self._known(cid)
        if known is not None and not self._is_earlier(self._db, cid, decoded.at):
            return AddResult("known", known)
        return judge(decoded, self.rules, now, joining=joining)

    def _take(
        self, db: sqlite3.Connection, judged: Judged, now: int, joining: bool, local: bool
    ) -> AddResult | RecordRefused:
        envelope, record = judged
        # What a joining node fetches is dated by its sponsors over all the past.
        day = envelope.at if joining else now
        if self._is_stale(db, record) or self._is_departed(record, now):
            # Not charged: anybody who kept a node's old statements could use up its quota with them.
            return AddResult("stale", record)
        if not local:
            try:
                self._check_pending(db, record, envelope)
                self._check_claims(record, envelope)
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

    def _is_earlier(self, db: sqlite3.Connection, cid: bytes, at: int) -> bool:
        """Whether a sponsor says that it took a version before anybody was known to have. It may decide whether that
        was before the site was given away: of all that is known the earliest counts, in whatever order it came."""
        with self._lock, reading():
            row = db.execute("SELECT taken FROM versions WHERE cid = ?", (cid,)).fetchone()
        return row is not None and at < row[0]

    def _check_pending(
        self, db: sqlite3.Connection, record: VerifiedRecord, envelope: codec.Envelope
    ) -> None:
        """RecordRefused (`sponsor-quota`) for more versions than may wait for the chain to say that their wallet owns
        the site: strangers can sign such for every site there is."""
        body = record.body
        if not isinstance(body, SiteManifest) or record.owner == body.owner:
            return
        where = self._settler.owners.place(
            body.site_id, body.owner, record.owner, record.issued_at, envelope.at
        )
        if where.refused != NOT_OWNER:
            return
        [waiting] = db.execute(
            "SELECT COUNT(*) FROM versions WHERE sponsor = ? AND refused = 'not-owner'", (envelope.sponsor,)
        ).fetchone()
        if waiting >= self._config.sponsor_pending:
            raise RecordRefused(
                "Too many versions of the record's sponsor wait for the chain to say whose their sites are",
                slug="sponsor-quota",
            )

    def _check_claims(self, record: VerifiedRecord, envelope: codec.Envelope) -> None:
        """RecordRefused for more names than a wallet may link, or more wallets than a sponsor may bring in for one."""
        if isinstance(body := record.body, DomainLink):
            self._domains.check_room(
                link_of(record.cid, record.key, record.issued_at, body),
                envelope.sponsor,
                self._config.owner_names,
                self._config.sponsor_claims,
            )

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
            if self._is_earlier(db, record.cid, envelope.at):
                return self._taken_earlier(db, record, envelope)
            return AddResult("known", record), 0  # another thread was faster
        self._added.append(record.cid)
        if record.named:
            db.execute("INSERT INTO names VALUES (?, ?)", (record.cid, record.named))
        settled = chains.NOTHING
        if isinstance(body, SiteManifest):
            head = _as_head(record, body)
            foreign = envelope.sponsor if record.owner != body.owner else None
            db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, 0, ?, ?)",
                (
                    record.cid, head.site_id, body.channel, body.label, body.owner, body.seq, body.root,
                    body.prev, record.key, record.issued_at, body.created, body.size, head.flags,
                    record.owner, envelope.at, foreign, body.replicas,
                ),
            )  # fmt: skip
            version = Version(
                record.cid, body.seq, body.prev, record.key, record.issued_at, record.owner, envelope.at
            )
            settled = self._settler.added_version(version, head.site_id, body.channel, body.owner)
            if settled.raised:
                owner = self._settler.owners.of(head.site_id, body.owner).owner
                head = head if owner == head.owner else head._replace(owner=owner)
                return AddResult("accepted", record, (head,)), settled.work
        elif isinstance(body, Revocation):
            revoked = Revoked(body.key, record.key, record.issued_at, body.site, body.after)
            db.execute(
                "INSERT INTO revocations VALUES (?, ?, ?, ?, ?, ?, ?)",
                (record.cid, body.owner, *revoked),
            )
            settled = self._settler.added_revocation(body.owner, revoked)
            self._revoked.forget()
        elif isinstance(body, DomainLink):
            gone = self._domains.insert(
                link_of(record.cid, record.key, record.issued_at, body), envelope.sponsor
            )
            db.executemany("DELETE FROM records WHERE cid = ?", [(cid,) for cid in gone])
            self._removed += gone
        else:
            self._replace_statement(db, record, body)
            if isinstance(body, NodeAnnouncement):
                self._announced[record.key] = Statement(record.cid, record.key, body, envelope.record)
        return AddResult("accepted", record, *self._changes(settled)), settled.work

    def _changes(self, settled: chains.Settled) -> tuple[tuple[SiteHead, ...], tuple[tuple[str, str], ...]]:
        """Heads that are new, channels that have none any more."""
        heads: list[SiteHead] = []
        removed: list[tuple[str, str]] = []
        for site, channel in settled.changed:
            if (now_head := self.head(site, channel)) is not None:
                heads.append(now_head)
            else:
                removed.append((site, channel))
        return tuple(heads), tuple(removed)

    def _taken_earlier(
        self, db: sqlite3.Connection, record: VerifiedRecord, envelope: codec.Envelope
    ) -> tuple[AddResult, int]:
        query = "SELECT refused FROM versions WHERE cid = ?"
        [before] = db.execute(query, (record.cid,)).fetchone()
        db.execute("UPDATE versions SET taken = ? WHERE cid = ?", (envelope.at, record.cid))
        settled = self._settler.changed_version(record.cid)
        [after] = db.execute(query, (record.cid,)).fetchone()
        if before in (TRANSFERRED, ENDED) and after not in (TRANSFERRED, ENDED):
            # What is passed on should say why. Else the first sponsor stays the one who answers for it.
            db.execute("UPDATE records SET envelope = ? WHERE cid = ?", (envelope.raw, record.cid))
        return AddResult("accepted", record, *self._changes(settled)), settled.work

    # -- what the chain says

    def chain_cursor(self, source: str) -> int:
        """The block from which on facts of `source` (which contract on which chain) are wanted; 0: all."""
        rows = dict(self._all("SELECT name, value FROM followed"))
        return int(rows["next"]) if rows.get("source") == source else 0

    def apply_chain(self, facts: Sequence[Fact], *, source: str, next_block: int) -> Followed:
        """Take over all facts of `source` from `chain_cursor` up to, not including, block `next_block`.

        They must come from this node's own view of the chain, and be final: they are never taken back. Only those of
        another source replace what is known. Repeating them changes nothing.
        """
        with self._transaction() as db:
            touched: list[Fact] = []
            if dict(db.execute("SELECT name, value FROM followed")).get("source") != source:
                touched = owned.clear(db)
            touched += owned.insert(db, facts)
            db.executemany(
                "INSERT OR REPLACE INTO followed VALUES (?, ?)",
                [("source", source), ("next", str(next_block))],
            )
            if not touched:
                return Followed()
            settled = self._settler.added_facts(touched)
            self._revoked.forget()
            sites = tuple(dict.fromkeys(fact.site for fact in touched if isinstance(fact, Transfer)))
            for site in sites:
                self._settler.moved(site)
            return Followed(*self._changes(settled), sites)

    def is_ended(self, owner: bytes, site: str, issued_at: int, now: int) -> bool:
        """Whether the chain has ended what `owner` delegated at `issued_at`, for this site or for all."""
        with self._lock, reading():
            return owned.ended(self._db, owner, site, issued_at, now)

    def _is_stale(self, db: sqlite3.Connection, record: VerifiedRecord) -> bool:
        """Whether that node's newest statement about the thing is here; ties go to the lower CID. Of links, whether
        enough that come before it are."""
        if isinstance(record.body, DomainLink):
            return self._domains.is_outranked(link_of(record.cid, record.key, record.issued_at, record.body))
        if not isinstance(record.body, NodeAnnouncement | Receipt):
            return False
        about, rank, _ = _subject(record.body)
        old = db.execute(
            "SELECT rank, cid FROM statements WHERE kind = ? AND key = ? AND about = ?",
            (record.kind, record.key, about),
        ).fetchone()
        return old is not None and (-old[0], old[1]) < (-rank, record.cid)

    def _is_departed(self, record: VerifiedRecord, now: int) -> bool:
        """Whether it is an old statement of a node that nothing has been heard of for long."""
        body = record.body
        if not isinstance(body, NodeAnnouncement | Receipt) or body.created >= now - FORGET_AFTER:
            return False
        if self._nodes is None:
            self.nodes(now)
        last = self._announced.get(record.key) or (self._nodes or {}).get(record.key)
        return last is None or last.body.created < now - FORGET_AFTER

    def forget_departed(self, now: int) -> int:
        """Forget some statements of nodes that have not announced themselves for FORGET_AFTER seconds, those as
        old: their receipts name copies that nobody can ask for. How many; 0 when there are no more."""
        before = now - FORGET_AFTER
        with self._lock, reading():
            self.nodes(now)
            there = {key for key, said in (self._nodes or {}).items() if said.body.created >= before}
            keys = [row[0] for row in self._db.execute("SELECT DISTINCT key FROM statements")]
        gone: list[tuple[str, bytes, bytes, bytes]] = []
        with self._transaction() as db:
            for key in keys:
                if key in there or len(gone) >= _FORGOTTEN:
                    continue
                rows = db.execute(
                    "SELECT kind, key, about, cid FROM statements WHERE key = ? AND (kind != 'receipt' OR rank < ?) "
                    "LIMIT ?",
                    (key, before << 21, _FORGOTTEN - len(gone)),
                ).fetchall()
                gone += rows
            for kind, key, about, cid in gone:
                db.execute(
                    "DELETE FROM statements WHERE kind = ? AND key = ? AND about = ?", (kind, key, about)
                )
                db.execute("DELETE FROM records WHERE cid = ?", (cid,))
                self._removed.append(cid)
        if any(kind == "node" for kind, *_ in gone):
            with self._lock:
                self._nodes = None
        return len(gone)

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

    # -- what is kept in memory

    def nodes(self, now: int) -> list[Statement]:
        """Announcements of the last 24 hours."""
        # Asked for whenever content is looked for: decoding all of them each time would cost too much.
        with self._lock:
            if self._nodes is None:
                self._nodes = {said.key: said for said in self._statements("statements.kind = 'node'")}
            found = list(self._nodes.values())
        return [s for s in found if s.body.created >= now - _NODE_LIFETIME]

    def tree(self) -> Tree:
        """The hashes of all records, 32 bytes each, for comparison with another node's: a snapshot."""
        tree = self._tree
        if tree is None:
            with self._lock:
                tree = self._tree = self._tree or tree_of(map(_hash, self.ids()))
        return tree
