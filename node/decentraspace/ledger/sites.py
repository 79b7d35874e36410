"""Sites as the ledger counts them: whose they are, how much of them is here, which were taken here. Blocking."""

from __future__ import annotations

from decentraspace.holdings import Holdings
from decentraspace.ledger.meters import Held
from decentraspace.records.schema import PRODUCTION
from decentraspace.records.store import RecordStore


class Sites:
    """`key`: this node's public key."""

    def __init__(self, records: RecordStore, holdings: Holdings, key: bytes) -> None:
        self._records, self._holdings, self._key = records, holdings, key

    def owner_of(self, site: str) -> bytes | None:
        """Who made the site; None for one that no record names."""
        versions = self._records.history(site, PRODUCTION, 1)
        return versions[0].owner if versions else None

    def held(self) -> dict[str, Held]:
        """Of the newest version of each channel that is here in full. What versions have in common counts once;
        older versions, kept for rollback, are free."""
        found: dict[str, tuple[bytes, dict[bytes, int]]] = {}
        for head in self._records.all_heads():
            if self._holdings.holds(head.cid):
                found.setdefault(head.site_id, (head.owner, {}))[1][head.root] = head.size
        return {site: Held(owner, sum(sizes.values())) for site, (owner, sizes) in found.items()}

    def taken(self) -> dict[str, tuple[bytes, int]]:
        """Sites deployed at this node that it holds: owner, and when the newest version was made."""
        return {
            head.site_id: (head.owner, head.created)
            for head in self._records.all_heads()
            if head.channel == PRODUCTION
            and self._holdings.holds(head.cid)
            and self._records.sponsor(head.cid) == self._key
        }
