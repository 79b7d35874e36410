"""What this node signs for: that it holds a site, and, taking it back, that it no longer does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import structlog
import trio

from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.identity.keys import NodeKey
from decentraspace.records.schema import MAX_HOLDERS, Receipt
from decentraspace.records.signing import sign_receipt
from decentraspace.records.store import RecordStore, SiteHead
from decentraspace.records.verdict import NetworkRules, RecordRefused

log = structlog.get_logger(__name__)


class Receipts:
    """`publish` takes a record of this node: durable when it returns, then gossiped."""

    def __init__(
        self,
        config: Config,
        key: NodeKey,
        rules: NetworkRules,
        blocks: BlockStore,
        records: RecordStore,
        publish: Callable[[bytes], Awaitable[Any]],
    ) -> None:
        self._config, self._key, self._rules = config, key, rules
        self._blocks, self._records, self._publish = blocks, records, publish

    async def give(self, head: SiteHead) -> bytes:
        """For a version that is held: signed once and then always the same, but for a site deployed here, whose
        later receipts name the other nodes that have signed theirs."""
        receipts = await trio.to_thread.run_sync(self._records.receipts, head.root)
        holders: tuple[bytes, ...] = ()
        if await trio.to_thread.run_sync(self._records.sponsor, head.cid) == self._key.public:
            holders = tuple(r.key for r in receipts if r.key != self._key.public)[:MAX_HOLDERS]
        own = await trio.to_thread.run_sync(
            self._records.receipt_of, self._key.public, head.site_id, head.channel
        )
        if (
            own is not None
            and own.body.held
            and (own.body.root, own.body.seq, own.body.holders) == (head.root, head.seq, holders)
        ):
            return own.record
        now = int(time.time())
        again = own is not None and (not own.body.held or own.body.seq >= head.seq)
        receipt = Receipt(
            root=head.root,
            size=await trio.to_thread.run_sync(self._blocks.dag_size, head.root),
            site=head.site_id,
            channel=head.channel,
            seq=head.seq,
            holders=holders,
            held=True,
            created=max(now, own.body.created + again) if own else now,
        )
        record = sign_receipt(receipt, self._key, self._rules)
        if self._config.hosting.receipts:
            try:
                await self._publish(record)
            except RecordRefused as error:
                # The clock was set back: until it has come so far again the older receipt stands. The owner gets
                # one of now.
                log.warning("receipt_not_published", site=head.site_id, reason=str(error))
                return sign_receipt(replace(receipt, created=now), self._key, self._rules)
        return record

    async def take_back(self, site_id: str, channel: str) -> None:
        """Say that this node no longer holds what its receipt for a channel names."""
        own = await trio.to_thread.run_sync(self._records.receipt_of, self._key.public, site_id, channel)
        if own is not None and own.body.held:
            now = max(int(time.time()), own.body.created)
            receipt = replace(own.body, holders=(), held=False, created=now)
            await self._publish(sign_receipt(receipt, self._key, self._rules))
