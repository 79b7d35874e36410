"""This node's announcement: who and where it is, and how much it takes; told now and then, and at once when
that changes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
import trio

from decentraspace import reach
from decentraspace.config import Config
from decentraspace.errors import DecentraSpaceError
from decentraspace.identity.ethereum import parse_address
from decentraspace.records.schema import NodeAnnouncement
from decentraspace.records.store import RecordStore

log = structlog.get_logger(__name__)

_MOST = 600.0  # seconds between announcements
_RETRY = 5.0  # after a failure, doubled with each further one
_ADDRESSES_MOST, _ADDRESS_MOST = 16, 200  # of an announcement, and characters of one


class Announcer:
    """`announce` signs and publishes; `addresses`, `willing` and `prices` say what is true now; `key` is this
    node's."""

    def __init__(
        self,
        config: Config,
        key: bytes,
        records: RecordStore,
        announce: Callable[[NodeAnnouncement], Awaitable[None]],
        addresses: Callable[[], Sequence[str]],
        willing: Callable[[], bool],
        prices: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._config, self._key, self._records = config, key, records
        self._announce, self._addresses, self._willing = announce, addresses, willing
        self._prices = prices
        self._lock = trio.Lock()
        # Others forget a node that is silent for hosting.live_for; one announcement may be lost on the way.
        self.every = min(_MOST, config.hosting.live_for / 3)

    async def now(self) -> None:
        """Something has changed: announce it. Raises what storing the announcement raises."""
        async with self._lock:  # so that each has a number of its own
            await self._announce(await trio.to_thread.run_sync(self.announcement))

    async def run(self) -> None:
        """Until cancelled. A failure, such as a full disk, is tried again: the node serves meanwhile."""
        delay = retry = min(_RETRY, self.every)
        while True:
            try:
                await self.now()
            except Exception as error:
                known = isinstance(error, DecentraSpaceError)
                log.warning(
                    "announcement_failed",
                    reason=str(error),
                    retry_in=delay,
                    exc_info=None if known else error,
                )
                wait, delay = delay, min(delay * 2, self.every)
            else:
                wait, delay = self.every, retry
            await trio.sleep(wait)

    def announcement(self) -> NodeAnnouncement:
        """What is to be said now. Its number is higher than that of all before, also when the clock was set
        back, or two fall into one second. Blocking."""
        config, now = self._config, int(time.time())
        last = self._records.announcement_of(self._key)
        addresses = [a for a in self._addresses() if len(a) <= _ADDRESS_MOST]
        return NodeAnnouncement(
            http=reach.announced_api(config),
            gateway=reach.announced_gateway(config),
            addrs=tuple(addresses[:_ADDRESSES_MOST]),
            operator=parse_address(config.node.operator) if config.node.operator else None,
            capacity=config.storage.quota if self._willing() else 0,
            prices=dict(self._prices()),
            name=config.node.name,
            seq=max(now, last.seq + 1) if last is not None else now,
            created=now,
        )
