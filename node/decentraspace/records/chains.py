"""Keeps verdicts on versions and heads in the tables up to date: state.py's rules, for what a record touches.

All functions run inside the transaction that changes the set, so that a crash leaves neither without the
other. The result depends on the set alone, not on the order in which it grew.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from decentraspace.records.owned import Owners
from decentraspace.records.ownership import Fact, Transfer
from decentraspace.records.state import Revoked, Version, Voids, objection, standing

Channel = tuple[str, str]
"""Site id, name of the channel."""


class Settled(NamedTuple):
    """Channels whose head changed; versions judged and revocations read for it. `raised`: the version that
    was added is its channel's head now, and no other channel changed."""

    changed: list[Channel]
    work: int
    raised: bool = False


NOTHING = Settled([], 0)
_VERSION = (
    "SELECT cid, seq, prev, key, issued_at, wallet, taken, epoch, site, channel, owner, refused "
    "FROM versions WHERE cid = ?"
)
_PARTS = len(Version._fields)
_CHILDREN = "SELECT cid FROM versions WHERE prev = ? AND site = ? AND channel = ?"
_ANY_CHILD = _CHILDREN + " LIMIT 1"
_REVOKED = "SELECT key, signer, issued_at, site, after FROM revocations WHERE owner = ? AND "


class Settler:
    """Of one transaction: what it read of revocations and of the chain is not read again before more is added."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._voids = _Voids(db)
        self.owners = Owners(db)

    def added_version(self, version: Version, site: str, channel: str, founder: bytes) -> Settled:
        """Judge a version that was just inserted as one that counts, and those that were waiting for it."""
        db, voids = self._db, self._voids
        if db.execute(_ANY_CHILD, (version.cid, site, channel)).fetchone() is not None:
            return settle(db, [version.cid], voids, self.owners)
        # Nearly always: nobody waited, so that it alone can change the head.
        before = voids.read
        version, reason = _judged(db, version, site, channel, founder, voids, self.owners)
        raised = False
        if reason is not None or version.epoch:
            _write(db, version, reason)
        if reason is None:
            raised = _raise_head(db, version, site, channel, self.owners.of(site, founder).owner)
        return Settled([(site, channel)] if raised else [], 1 + voids.read - before, raised)

    def changed_version(self, cid: bytes) -> Settled:
        """Judge a version again that was taken earlier than was known."""
        return settle(self._db, [cid], self._voids, self.owners)

    def added_revocation(self, owner: bytes, added: Revoked) -> Settled:
        """Judge again what a revocation that was just inserted may touch."""
        self._voids = _Voids(self._db)
        return settle(self._db, _touched(self._db, owner, added), self._voids, self.owners)

    def added_facts(self, facts: Collection[Fact]) -> Settled:
        """Judge again what the chain says something new about."""
        self.owners = Owners(self._db)
        touched: dict[bytes, None] = {}
        for fact in facts:
            if isinstance(fact, Transfer):
                found = self._db.execute(
                    "SELECT cid FROM versions WHERE site = ? ORDER BY seq", (fact.site,)
                ).fetchall()
            else:
                condition, site = ("AND site = ?", (fact.site,)) if fact.site else ("", ())
                found = self._db.execute(
                    "SELECT cid FROM versions WHERE wallet = ? AND issued_at < ? AND taken >= ? "  # noqa: S608
                    f"{condition} ORDER BY seq",
                    (fact.owner, fact.before, fact.time, *site),
                ).fetchall()
            touched.update(dict.fromkeys(row[0] for row in found))
        return settle(self._db, touched, self._voids, self.owners)

    def moved(self, site: str) -> None:
        """Heads of a site are listed under who owns it now."""
        for channel, founder in self._db.execute(
            "SELECT heads.channel, versions.owner FROM heads JOIN versions USING (cid) WHERE heads.site = ?",
            (site,),
        ).fetchall():
            self._db.execute(
                "UPDATE heads SET owner = ? WHERE site = ? AND channel = ?",
                (self.owners.of(site, founder).owner, site, channel),
            )


def _touched(db: sqlite3.Connection, owner: bytes, added: Revoked) -> list[bytes]:
    condition, site = ("AND site = ?", (added.site,)) if added.site else ("", ())
    touched = db.execute(
        "SELECT cid FROM versions WHERE wallet = ? AND key = ? AND issued_at < ? AND seq > ? "  # noqa: S608
        f"AND refused IS NOT 'revoked-key' {condition}",
        (owner, added.key, added.issued_at, added.after, *site),
    ).fetchall()
    # It may overrule revocations signed by the key, which makes others stand or fall in turn.
    found: set[bytes] = set()
    queue = [(added.key, added.issued_at)]
    while queue:
        signer, before = queue.pop()
        for (key,) in db.execute(
            "SELECT DISTINCT key FROM revocations WHERE owner = ? AND signer = ? AND issued_at < ?",
            (owner, signer, before),
        ).fetchall():
            if key not in found:
                found.add(key)
                queue.append((key, 2**63 - 1))
    for key in found:
        touched += db.execute(
            f"SELECT cid FROM versions WHERE wallet = ? AND key = ? {condition}",  # noqa: S608
            (owner, key, *site),
        ).fetchall()
    return [row[0] for row in touched]


def settle(
    db: sqlite3.Connection,
    cids: Iterable[bytes],
    voids: _Voids | None = None,
    owners: Owners | None = None,
) -> Settled:
    """Judge versions, and those after them as far as that changes anything; set heads."""
    voids, owners = voids or _Voids(db), owners or Owners(db)
    before = voids.read
    queue = deque(cids)
    unseen = set(queue)  # their children are judged in any case: to them this version may be new
    channels: dict[Channel, bytes] = {}
    judged = 0
    while queue:
        cid = queue.popleft()
        judged += 1
        *parts, site, channel, founder, refused = db.execute(_VERSION, (cid,)).fetchone()
        old = Version(*parts)
        new, reason = _judged(db, old, site, channel, founder, voids, owners)
        if (reason, new.epoch) != (refused, old.epoch):
            _write(db, new, reason)
        if cid in unseen or (reason is None, new.epoch) != (refused is None, old.epoch):
            unseen.discard(cid)
            channels[(site, channel)] = founder
            queue.extend(row[0] for row in db.execute(_CHILDREN, (cid, site, channel)).fetchall())
    changed = [
        where
        for where, founder in channels.items()
        if _set_head(db, *where, owners.of(where[0], founder).owner)
    ]
    return Settled(changed, judged + voids.read - before)


def _write(db: sqlite3.Connection, version: Version, reason: str | None) -> None:
    db.execute(
        "UPDATE versions SET refused = ?, epoch = ? WHERE cid = ?", (reason, version.epoch, version.cid)
    )


def _judged(
    db: sqlite3.Connection,
    version: Version,
    site: str,
    channel: str,
    founder: bytes,
    voids: _Voids,
    owners: Owners,
) -> tuple[Version, str | None]:
    """The version with its epoch, and why it does not count, or None."""
    where = owners.place(site, founder, version.wallet, version.issued_at, version.taken)
    if where.epoch != version.epoch:
        version = version._replace(epoch=where.epoch)
    if where.refused is not None:
        return version, where.refused
    parent = db.execute(_VERSION, (version.prev,)).fetchone() if version.prev else None
    if parent is not None and parent[_PARTS : _PARTS + 2] != (site, channel):
        parent = None  # of another chain: for this one it is unknown
    reason = objection(
        version,
        Version(*parent[:_PARTS]) if parent else None,
        parent is None or parent[-1] is None,
        voids.of(version.wallet, site, version.key),
    )
    return version, reason


def standing_against(db: sqlite3.Connection, owner: bytes, site: str, key: bytes) -> Collection[Revoked]:
    """Revocations of `key` that stand for `site`; for all sites alike where `site` is ""."""
    return _Voids(db).of(owner, site, key).get(key, ())


class _Voids:
    """Revocations that stand against a key, read once per transaction. `read`: how many rows that took."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.read = db, 0
        self._kept: dict[tuple[bytes, str | None, bytes], Voids] = {}
        self._of_all_keys: dict[tuple[bytes, str | None], Voids | None] = {}
        self._specific: dict[tuple[bytes, str], bool] = {}
        self._any: dict[bytes, bool] = {}

    def of(self, owner: bytes, site: str, key: bytes) -> Voids:
        if owner not in self._any:
            found = self._db.execute("SELECT 1 FROM revocations WHERE owner = ? LIMIT 1", (owner,)).fetchone()
            self._any[owner] = found is not None
        if not self._any[owner]:
            return {}
        # Most owners revoke for all sites alike: then one answer serves all their sites.
        if (owner, site) not in self._specific:
            found = self._db.execute(
                _REVOKED + "site = ? LIMIT 1", (owner, site)
            ).fetchone()  # walks the owner's revocations, which are few
            self._specific[(owner, site)] = found is not None
        scope = (owner, site if self._specific[(owner, site)] else None)
        where = (*scope, key)
        if where not in self._kept:
            # The first key is usually the only one. For the second, all are read: keys that revoke each
            # other in a long line would otherwise have the line walked again for each of them.
            if scope not in self._of_all_keys:
                self._of_all_keys[scope] = None
                self._kept[where] = standing(self._relevant(owner, site, key), site)
            else:
                self._kept[where] = self._of_all_keys[scope] or self._all(scope, site)
        return self._kept[where]

    def _all(self, scope: tuple[bytes, str | None], site: str) -> Voids:
        rows = self._db.execute(_REVOKED + "(site IS NULL OR site = ?)", (scope[0], site)).fetchall()
        self.read += len(rows)
        voids = self._of_all_keys[scope] = standing([Revoked(*row) for row in rows], site)
        return voids

    def _relevant(self, owner: bytes, site: str, key: bytes) -> set[Revoked]:
        """Those against the key, those against their signers, and so on."""
        rows: set[Revoked] = set()
        seen, queue = {key}, [key]
        while queue:
            for row in self._db.execute(
                _REVOKED + "key = ? AND (site IS NULL OR site = ?)", (owner, queue.pop(), site)
            ).fetchall():
                revoked = Revoked(*row)
                rows.add(revoked)
                self.read += 1
                if revoked.signer not in seen:
                    seen.add(revoked.signer)
                    queue.append(revoked.signer)
        return rows


def _raise_head(db: sqlite3.Connection, version: Version, site: str, channel: str, owner: bytes) -> bool:
    """Make a version that counts the head if it comes before the one there is; whether it did."""
    head = (site, channel, version.cid, owner)
    if db.execute("INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?)", head).rowcount:
        return True
    old = db.execute(
        "SELECT -epoch, -issued_at, -seq, cid FROM heads JOIN versions USING (cid) "
        "WHERE heads.site = ? AND heads.channel = ?",
        (site, channel),
    ).fetchone()
    if old is not None and old <= version.rank:
        return False
    db.execute("INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?)", head)
    return True


def _set_head(db: sqlite3.Connection, site: str, channel: str, owner: bytes) -> bool:
    """Whether the channel has another head than before, or none any more."""
    best = db.execute(
        "SELECT cid FROM versions WHERE site = ? AND channel = ? AND refused IS NULL "
        "ORDER BY epoch DESC, issued_at DESC, seq DESC, cid LIMIT 1",
        (site, channel),
    ).fetchone()
    old = db.execute("SELECT cid FROM heads WHERE site = ? AND channel = ?", (site, channel)).fetchone()
    if best == old:
        return False
    db.execute("DELETE FROM heads WHERE site = ? AND channel = ?", (site, channel))
    if best is not None:
        db.execute("INSERT INTO heads VALUES (?, ?, ?, ?)", (site, channel, best[0], owner))
    return True
