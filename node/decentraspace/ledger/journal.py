"""The books: entries that are only ever added, each once, each of which sums to nothing.

    owner:ADDRESS           used and charged, not yet billed
    receivable:ALLOCATION   billed: in a batch that was written down for the chain
    settled:ALLOCATION      paid on chain, final
    stream:ALLOCATION       storage used under a stream; below zero: paid ahead
    income:SERVICE          what use was worth (negative, as income is)
    free:ADDRESS            given away by an allowance
    waived:ADDRESS          beyond what the owner granted
    lost:ALLOCATION         billed or used, and never to be had: the allocation has ended
    unexplained:ALLOCATION  paid on chain for use that these books do not know (they were restored)
    card:ADDRESS            card money that may still be called back; float: credits deposited for it from the
    float, bank             operator's own; bank: card money that can no longer be called back
    chargeback:ADDRESS      card money that was called back

ADDRESS and ALLOCATION are 0x and hex digits, lower case. Amounts are whole credits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from decentraspace.errors import DecentraSpaceError

AMOUNT_MOST = 2**62


class Unbalanced(DecentraSpaceError):
    title = "The node's books do not balance"


Entry = tuple[str, Mapping[str, int]]
"""A key and its postings, account -> amount."""


def post(db: sqlite3.Connection, key: str, kind: str, at: int, postings: Mapping[str, int]) -> bool:
    """Write an entry within the transaction under way; whether it is new: a key is booked once.

    Postings of nothing are left out, and an entry of none is not written. Unbalanced for what does not sum to
    nothing: that is a bug, and ends the transaction.
    """
    if db.execute("SELECT 1 FROM entries WHERE key = ?", (key,)).fetchone() is not None:
        return False
    return post_many(db, kind, at, [(key, postings)]) > 0


def post_many(db: sqlite3.Connection, kind: str, at: int, entries: Iterable[Entry]) -> int:
    """`post` of keys that were never booked; how many were written. IntegrityError for one that was."""
    number = db.execute("SELECT COALESCE(MAX(id), 0) FROM entries").fetchone()[0]
    heads: list[tuple[int, str, str, int]] = []
    rows: list[tuple[int, str, int]] = []
    for key, postings in entries:
        if sum(postings.values()):
            raise Unbalanced(f"Entry {key} sums to {sum(postings.values())}")
        amounts = [(account, amount) for account, amount in postings.items() if amount]
        if any(abs(amount) > AMOUNT_MOST for _, amount in amounts):
            raise Unbalanced(f"Entry {key} has an amount beyond all bounds")
        if amounts:
            number += 1
            heads.append((number, key, kind, at))
            rows += [(number, account, amount) for account, amount in amounts]
    sums: dict[str, int] = {}
    for _, account, amount in rows:
        sums[account] = sums.get(account, 0) + amount
    db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", heads)
    db.executemany("INSERT INTO postings VALUES (?, ?, ?)", rows)
    db.executemany(
        "INSERT INTO accounts VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET "
        "balance = balance + excluded.balance",
        sums.items(),
    )
    return len(heads)


def balance(db: sqlite3.Connection, account: str) -> int:
    found = db.execute("SELECT balance FROM accounts WHERE account = ?", (account,)).fetchone()
    return int(found[0]) if found else 0


def balances(db: sqlite3.Connection, prefix: str = "") -> dict[str, int]:
    """Of all accounts whose names begin so."""
    rows = db.execute(
        "SELECT account, balance FROM accounts WHERE account >= ? AND account < ? ORDER BY account",
        (prefix, prefix + "\x7f"),
    )
    return {str(account): int(amount) for account, amount in rows}


def check_total(db: sqlite3.Connection) -> list[str]:
    """The part of `check` that takes no time."""
    total = db.execute("SELECT COALESCE(SUM(balance), 0) FROM accounts").fetchone()[0]
    return [f"All accounts together have {total} instead of 0"] if total else []


def check(db: sqlite3.Connection) -> list[str]:
    """What is wrong with the books, in words; nothing when they balance."""
    wrong = check_total(db)
    for entry, amount in db.execute(
        "SELECT entry, SUM(amount) FROM postings GROUP BY entry HAVING SUM(amount) <> 0 LIMIT 5"
    ):
        wrong.append(f"Entry {entry} sums to {amount} instead of 0")
    for account, kept, summed in db.execute(
        "SELECT account, balance, COALESCE(summed, 0) FROM accounts LEFT JOIN "
        "(SELECT account, SUM(amount) AS summed FROM postings GROUP BY account) USING (account) "
        "WHERE balance <> COALESCE(summed, 0) LIMIT 5"
    ):
        wrong.append(f"Account {account} has {kept}, its postings {summed}")
    unknown = db.execute(
        "SELECT COUNT(*) FROM postings WHERE account NOT IN (SELECT account FROM accounts)"
    ).fetchone()[0]
    if unknown:
        wrong.append(f"{unknown} postings are of accounts that do not exist")
    for number, charged, leaves in db.execute(
        "SELECT number, charged, (SELECT COALESCE(SUM(credits), 0) FROM leaves WHERE allocation = number) AS l "
        "FROM allocations WHERE charged <> base + l LIMIT 5"
    ):
        wrong.append(f"Allocation {number} was charged {charged}, its use comes to {leaves}")
    return wrong
