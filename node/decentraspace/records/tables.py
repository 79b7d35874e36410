"""The tables of the record store, as numbered migrations."""

from __future__ import annotations

import sqlite3

from decentraspace.database import Migration
from decentraspace.records import codec

_FIRST = """
CREATE TABLE records (
    cid BLOB PRIMARY KEY, kind TEXT NOT NULL, key BLOB NOT NULL, envelope BLOB NOT NULL, seen INTEGER NOT NULL
);
CREATE TABLE versions (
    cid BLOB PRIMARY KEY, site TEXT NOT NULL, channel TEXT NOT NULL, label TEXT NOT NULL, owner BLOB NOT NULL,
    seq INTEGER NOT NULL, root BLOB NOT NULL, prev BLOB, key BLOB NOT NULL, issued_at INTEGER NOT NULL,
    created INTEGER NOT NULL, size INTEGER NOT NULL, flags INTEGER NOT NULL, refused TEXT
);
CREATE INDEX versions_site ON versions (site, channel, seq);
CREATE INDEX versions_root ON versions (root);
CREATE INDEX versions_prev ON versions (prev);
CREATE INDEX versions_key ON versions (owner, key);
CREATE INDEX versions_best ON versions (site, channel, issued_at DESC, seq DESC, cid) WHERE refused IS NULL;
CREATE TABLE heads (
    site TEXT NOT NULL, channel TEXT NOT NULL, cid BLOB NOT NULL, owner BLOB NOT NULL,
    PRIMARY KEY (site, channel)
);
CREATE INDEX heads_owner ON heads (owner);
CREATE TABLE revocations (
    cid BLOB PRIMARY KEY, owner BLOB NOT NULL, key BLOB NOT NULL, signer BLOB NOT NULL,
    issued_at INTEGER NOT NULL, site TEXT, after INTEGER NOT NULL
);
CREATE INDEX revocations_key ON revocations (owner, key);
CREATE INDEX revocations_signer ON revocations (owner, signer);
CREATE TABLE statements (
    kind TEXT NOT NULL, key BLOB NOT NULL, about BLOB NOT NULL, rank INTEGER NOT NULL, cid BLOB NOT NULL,
    root BLOB, PRIMARY KEY (kind, key, about)
);
CREATE INDEX statements_root ON statements (root, key, cid) WHERE root IS NOT NULL;
CREATE INDEX statements_cid ON statements (cid);
CREATE TABLE sponsors (
    sponsor BLOB NOT NULL, day INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
    refused INTEGER NOT NULL, PRIMARY KEY (sponsor, day)
)
"""

_NAMES = """
CREATE TABLE names (cid BLOB PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX names_key ON names (key)
"""
"""Versions that carry a record of the site's IPNS name, and the name's key."""

_OWNERSHIP = """
CREATE TABLE transfers (
    site TEXT NOT NULL, block INTEGER NOT NULL, place INTEGER NOT NULL, time INTEGER NOT NULL,
    owner BLOB NOT NULL, PRIMARY KEY (site, block, place)
) WITHOUT ROWID;
CREATE TABLE ended (
    owner BLOB NOT NULL, site TEXT NOT NULL, block INTEGER NOT NULL, place INTEGER NOT NULL,
    time INTEGER NOT NULL, before INTEGER NOT NULL, PRIMARY KEY (owner, site, block, place)
) WITHOUT ROWID;
CREATE TABLE followed (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
ALTER TABLE versions ADD COLUMN wallet BLOB NOT NULL DEFAULT x'';
ALTER TABLE versions ADD COLUMN taken INTEGER NOT NULL DEFAULT 0;
ALTER TABLE versions ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE versions ADD COLUMN sponsor BLOB;
DROP INDEX IF EXISTS versions_key;
DROP INDEX IF EXISTS versions_best;
CREATE INDEX versions_key ON versions (wallet, key);
CREATE INDEX versions_best ON versions (site, channel, epoch DESC, issued_at DESC, seq DESC, cid)
    WHERE refused IS NULL;
CREATE INDEX versions_pending ON versions (sponsor) WHERE refused = 'not-owner'
"""
"""What the chain says of sites; of versions, who delegated, when the sponsor took it, in which owner's time it falls,
and, of those whose wallet is not the founder's, the sponsor."""


def _ownership(db: sqlite3.Connection) -> None:
    for statement in _OWNERSHIP.split(";"):
        db.execute(statement)
    db.execute("UPDATE versions SET wallet = owner")
    rows = db.execute("SELECT cid, envelope FROM records WHERE kind = 'site'").fetchall()
    db.executemany(
        "UPDATE versions SET taken = ? WHERE cid = ?",
        [(codec.decode_envelope(envelope).at, cid) for cid, envelope in rows],
    )


_REPLICAS = "ALTER TABLE versions ADD COLUMN replicas INTEGER"

_DOMAINS = """
CREATE TABLE domains (
    cid BLOB PRIMARY KEY, name TEXT NOT NULL, wallet BLOB NOT NULL, seq INTEGER NOT NULL, key BLOB NOT NULL,
    issued_at INTEGER NOT NULL, created INTEGER NOT NULL, founder BLOB, label TEXT, site TEXT, sponsor BLOB NOT NULL
);
CREATE INDEX domains_name ON domains (name, wallet);
CREATE INDEX domains_wallet ON domains (wallet, name);
CREATE INDEX domains_site ON domains (site) WHERE site IS NOT NULL
"""

_PROOFS = "ALTER TABLE domains ADD COLUMN proof TEXT"

MIGRATIONS: tuple[Migration, ...] = (_FIRST, _NAMES, _ownership, _REPLICAS, _DOMAINS, _PROOFS)
