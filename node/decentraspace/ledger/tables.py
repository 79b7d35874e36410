"""The tables of ledger.sqlite, as numbered migrations.

Entries, postings, leaves, totals and chain events are only ever added to: the database itself refuses anything else.
"""

from __future__ import annotations

from decentraspace.database import Migration

_METERS = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE open (
    hour INTEGER NOT NULL, owner BLOB NOT NULL, site TEXT NOT NULL, service TEXT NOT NULL,
    quantity INTEGER NOT NULL, fixed INTEGER NOT NULL, PRIMARY KEY (hour, owner, site, service)
) WITHOUT ROWID;
CREATE TABLE seen (
    hour INTEGER NOT NULL, site TEXT NOT NULL, requests INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (hour, site)
) WITHOUT ROWID;
CREATE TABLE holdings (
    site TEXT PRIMARY KEY, owner BLOB NOT NULL, bytes INTEGER NOT NULL, since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE carries (
    owner BLOB NOT NULL, site TEXT NOT NULL, service TEXT NOT NULL,
    paid INTEGER NOT NULL, free INTEGER NOT NULL, seconds INTEGER NOT NULL,
    PRIMARY KEY (owner, site, service)
) WITHOUT ROWID;
CREATE TABLE allowances (
    owner BLOB NOT NULL, month INTEGER NOT NULL, service TEXT NOT NULL, used INTEGER NOT NULL,
    PRIMARY KEY (owner, month, service)
) WITHOUT ROWID;
CREATE TABLE spent (
    site TEXT NOT NULL, month INTEGER NOT NULL, credits INTEGER NOT NULL, PRIMARY KEY (site, month)
) WITHOUT ROWID;
CREATE TABLE caps (site TEXT PRIMARY KEY, owner BLOB NOT NULL, credits INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE deducts (
    key TEXT PRIMARY KEY, owner BLOB NOT NULL, site TEXT NOT NULL, service TEXT NOT NULL,
    quantity INTEGER NOT NULL, fixed INTEGER NOT NULL, credits INTEGER NOT NULL, hour INTEGER NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID
"""

_BOOKS = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, at INTEGER NOT NULL
);
CREATE TABLE postings (
    entry INTEGER NOT NULL, account TEXT NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (entry, account)
) WITHOUT ROWID;
CREATE TABLE accounts (account TEXT PRIMARY KEY, balance INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE leaves (
    id INTEGER PRIMARY KEY, hour INTEGER NOT NULL, owner BLOB NOT NULL, site TEXT NOT NULL,
    service TEXT NOT NULL, quantity INTEGER NOT NULL, free INTEGER NOT NULL, given INTEGER NOT NULL,
    credits INTEGER NOT NULL, streamed INTEGER NOT NULL, waived INTEGER NOT NULL, allocation INTEGER
);
CREATE INDEX leaves_owner ON leaves (owner, hour);
CREATE INDEX leaves_allocation ON leaves (allocation, id) WHERE allocation IS NOT NULL
"""

_CHAIN = """
CREATE TABLE events (
    chain INTEGER NOT NULL, hash TEXT NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL,
    block INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (chain, hash, place)
) WITHOUT ROWID;
CREATE TABLE wallets (owner BLOB PRIMARY KEY, balance INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE allocations (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, owner BLOB NOT NULL, operator BLOB NOT NULL,
    cap INTEGER NOT NULL, rate INTEGER NOT NULL, start INTEGER NOT NULL, expires INTEGER NOT NULL,
    stream_base INTEGER NOT NULL DEFAULT 0, stream_from INTEGER NOT NULL DEFAULT 0,
    stream_settled INTEGER NOT NULL DEFAULT 0, stream_used INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0, charged INTEGER NOT NULL DEFAULT 0, base INTEGER NOT NULL DEFAULT 0,
    billed INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0,
    oldest INTEGER, wait INTEGER NOT NULL DEFAULT 0,
    chosen TEXT NOT NULL
);
CREATE INDEX allocations_owner ON allocations (owner, operator);
CREATE TABLE site_owners (site TEXT PRIMARY KEY, owner BLOB NOT NULL, label TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE revoked (site TEXT PRIMARY KEY, before INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE operators (operator BLOB PRIMARY KEY, registered INTEGER NOT NULL) WITHOUT ROWID
"""

_SETTLING = """
CREATE TABLE batches (
    root BLOB PRIMARY KEY, state TEXT NOT NULL, made INTEGER NOT NULL, offered INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 1, prices TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE totals (
    allocation INTEGER NOT NULL, cumulative INTEGER NOT NULL, previous INTEGER NOT NULL,
    usage_root BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (allocation, cumulative)
) WITHOUT ROWID;
CREATE TABLE charges (
    root BLOB NOT NULL, allocation INTEGER NOT NULL, cumulative INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'offered', reference TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (root, allocation)
) WITHOUT ROWID;
CREATE INDEX charges_allocation ON charges (allocation, cumulative);
CREATE TABLE pauses (
    site TEXT NOT NULL, service TEXT NOT NULL, reason TEXT NOT NULL, owner BLOB NOT NULL,
    since INTEGER NOT NULL, PRIMARY KEY (site, service, reason)
) WITHOUT ROWID;
CREATE INDEX pauses_owner ON pauses (owner);
CREATE TABLE terms (
    site TEXT PRIMARY KEY, owner BLOB NOT NULL, renewed INTEGER NOT NULL, expires INTEGER,
    warned INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE cards (
    reference TEXT PRIMARY KEY, owner BLOB NOT NULL, credits INTEGER NOT NULL, state TEXT NOT NULL,
    received INTEGER NOT NULL, until INTEGER NOT NULL
) WITHOUT ROWID
"""

_KEPT = ("entries", "postings", "leaves", "events", "totals")


def _first(db: object) -> None:
    import sqlite3

    assert isinstance(db, sqlite3.Connection)
    for script in (_METERS, _BOOKS, _CHAIN, _SETTLING):
        for statement in script.split(";"):
            db.execute(statement)
    for table in _KEPT:
        for change in ("UPDATE", "DELETE"):
            db.execute(
                f"CREATE TRIGGER {table}_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} are only added to'); END"
            )


_SITE_EVENTS = """
CREATE INDEX events_sites ON events (block, place) WHERE kind IN ('site_transferred', 'delegations_revoked')
"""
_PAYMENTS = """
ALTER TABLE cards ADD COLUMN reversed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cards ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;
UPDATE cards SET reversed = credits WHERE state = 'reversed';
CREATE TABLE deposits (
    reference TEXT PRIMARY KEY, credits INTEGER, status TEXT NOT NULL, "transaction" TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX deposits_open ON deposits (reference) WHERE status IN ('waiting', 'pending')
"""
_REMOVALS = """
CREATE TABLE removals (
    site TEXT PRIMARY KEY, began INTEGER NOT NULL, warned INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID
"""
MIGRATIONS: tuple[Migration, ...] = (_first, _SITE_EVENTS, _PAYMENTS, _REMOVALS)
