"""Which session keys were taken back, for those who ask at every request: remembered until that changes."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from typing import Any

from decentraspace.database import reading
from decentraspace.records import owned
from decentraspace.records.chains import standing_against
from decentraspace.records.state import Revoked, standing

_REMEMBERED = 10_000  # keys
_NEVER = -1
_EVERYWHERE = "*"


class RevokedKeys:
    """Of one record store, whose connection and lock it uses."""

    def __init__(self, db: sqlite3.Connection, lock: AbstractContextManager[Any]) -> None:
        self._db, self._lock = db, lock
        self._newest: dict[tuple[bytes, bytes, str], int] = {}

    def is_revoked(self, owner: bytes, key: bytes, issued_at: int, scope: str = _EVERYWHERE) -> bool:
        """Whether `key`, delegated at `issued_at` (Unix seconds), lost all that `scope` lets it do.

        `scope`: `*` or a site id. A revocation for one site leaves a key of all sites its others.
        """
        where = (owner, key, scope)
        newest = self._newest.get(where)
        if newest is None:
            # Under the lock, which a writer holds until its transaction has ended: what is remembered here
            # was not overtaken by a revocation that is being stored.
            with self._lock:
                site = "" if scope == _EVERYWHERE else scope
                found = standing_against(self._db, owner, site, key)
                newest = max((revoked.issued_at for revoked in found), default=_NEVER)
                newest = max(newest, owned.ended_before(self._db, owner, site))
                if len(self._newest) >= _REMEMBERED:
                    self._newest.clear()
                self._newest[where] = newest
        return newest > issued_at

    def standing(self, owner: bytes) -> list[Revoked]:
        """All revocations of an owner that stand, newest first: each for the site it names, or for all. Those that
        another makes superfluous are left out."""
        with self._lock, reading():
            rows = self._db.execute(
                "SELECT key, signer, issued_at, site, after FROM revocations WHERE owner = ?", (owner,)
            ).fetchall()
        known = {Revoked(*row) for row in rows}
        found: set[Revoked] = set()
        for site in {revoked.site for revoked in known}:
            for against in standing(known, site or "").values():
                found.update(revoked for revoked in against if revoked.site == site)
        return sorted(found, key=lambda r: (-r.issued_at, r.key, r.site or "", r.after))

    def forget(self) -> None:
        """To be called in the transaction that stores a revocation, or what the chain says."""
        self._newest.clear()
