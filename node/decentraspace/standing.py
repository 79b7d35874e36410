"""How a site stands, for people: its addresses, who holds it, how many copies there should be."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import trio

from decentraspace.challenges import Challenges
from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.errors import NotFound
from decentraspace.holdings import Holdings
from decentraspace.identity.ethereum import checksum_address
from decentraspace.identity.keys import peer_id_of
from decentraspace.identity.siwe import rfc3339
from decentraspace.records.schema import PRODUCTION
from decentraspace.records.store import RecordStore, SiteHead, Statement
from decentraspace.shares import Shares

_HOLDERS_SHOWN = 100


class Standing:
    """`key` is this node's."""

    def __init__(
        self,
        config: Config,
        key: bytes,
        records: RecordStore,
        holdings: Holdings,
        shares: Shares,
        challenges: Challenges,
    ) -> None:
        self._config, self._key, self._records = config, key, records
        self._holdings, self._shares, self.challenges = holdings, shares, challenges

    def urls(self, head: SiteHead) -> dict[str, str]:
        """`site`, or of a preview `preview`: its own host; `version`: this very content, as long as it is kept;
        `path`: by CID."""
        gateway = urlsplit(self._config.gateway_url)
        port = f":{gateway.port}" if gateway.port else ""
        domain, root = self._config.gateway.domain, cids.to_text(head.root)
        own = "site" if head.channel == PRODUCTION else "preview"
        return {
            "version": f"{gateway.scheme}://{root}.ipfs.{domain}{port}/",
            "path": f"{self._config.gateway_url}/ipfs/{root}/",
            own: f"{gateway.scheme}://{head.host_label}.{domain}{port}/",
        }

    async def holders(self, root: bytes) -> list[str]:
        """Peer ids of nodes whose signed receipt says they hold all of `root`, this node's first."""
        return [r.peer_id for r in await trio.to_thread.run_sync(self._receipts, root)]

    def _receipts(self, root: bytes) -> list[Statement]:
        """This node's own first, then those of nodes that are there, then others; so many as can be shown."""
        there = {n.key for n in self._records.nodes(int(time.time()))}
        found = self._records.receipts(root)
        found.sort(key=lambda r: (r.key != self._key, r.key not in there, r.key))
        return found[:_HOLDERS_SHOWN]

    async def status(self, site_id: str, channel: str = PRODUCTION) -> dict[str, Any]:
        """Head, channels, holders with their receipts, whether held here, how many copies are asked for, wanted, and
        present. NotFound."""
        head = await trio.to_thread.run_sync(self._records.head, site_id, channel)
        if head is None:
            raise NotFound(f"No site {site_id} with channel {channel} is known here")
        receipts = await trio.to_thread.run_sync(self._receipts, head.root)
        held = self._holdings.holds(head.cid)
        wanted, present = await trio.to_thread.run_sync(self._shares.copies, head, held)
        return {
            **describe_head(head),
            "urls": self.urls(head),
            "held_here": held,
            "copies": {"asked": head.replicas, "wanted": wanted, "present": present},
            "holders": [
                {
                    "peer_id": peer_id_of(r.key),
                    "bytes": r.body.size,
                    "created": rfc3339(r.body.created),
                    "receipt": cids.to_text(r.cid),
                    "checked": self._checked(r),
                }
                for r in receipts
            ],
            "channels": await trio.to_thread.run_sync(self._records.channels, site_id),
        }

    def _checked(self, receipt: Statement) -> str | None:
        """When that node last proved to this one that it holds what it signed for."""
        at = self.challenges.checked(receipt.key, receipt.body.root)
        return None if at is None else rfc3339(int(at))


def describe_head(head: SiteHead) -> dict[str, Any]:
    """A version of a site as JSON: CIDs as text, owner in EIP-55 form, created in RFC 3339."""
    return {
        "site": head.site_id,
        "label": head.label,
        "host": head.host_label,
        "owner": checksum_address(head.owner),
        "founder": checksum_address(head.founder),
        "channel": head.channel,
        "seq": head.seq,
        "root": cids.to_text(head.root),
        "manifest": cids.to_text(head.cid),
        "size": head.size,
        "created": rfc3339(head.created),
        **({"refused": head.refused} if head.refused else {}),
    }
