"""Assembles a node from its configuration: the only place that knows every part.

Node            owns the stores and builds the parts
Node.run        one nursery tree: plugins, libp2p, hosting, gateway workers, HTTP API, garbage collection
run_node        what `decentraspace run` calls: a node until a signal, an exit code
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import trio

from decentraspace import __version__, reach
from decentraspace.announcing import Announcer
from decentraspace.api.app import create_app
from decentraspace.api.server import serve_api
from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import run_gc
from decentraspace.content.scrub import run_scrub
from decentraspace.content.uploads import UploadStore
from decentraspace.errors import ConfigError, DecentraSpaceError, in_words, innermost
from decentraspace.gateway.control import ControlServer
from decentraspace.gateway.process import serve_gateway_and_control
from decentraspace.hosting import Hosting
from decentraspace.identity.ethereum import parse_address
from decentraspace.identity.keys import NodeKey
from decentraspace.identity.sessions import Sessions
from decentraspace.ledger.service import Billing
from decentraspace.ledger.sites import Sites
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import UsageRow, UsageStore
from decentraspace.mirroring import Mirroring
from decentraspace.names import published
from decentraspace.names.book import Book
from decentraspace.names.buying import Buying
from decentraspace.names.linking import Linking
from decentraspace.names.service import NameService
from decentraspace.network import providers
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.network.dht.announcing import Announcing
from decentraspace.network.dht.finding import Finding
from decentraspace.network.dht.schedule import Schedule
from decentraspace.network.fetch import Fetcher, Provider
from decentraspace.network.host import Network
from decentraspace.owning import Owning
from decentraspace.plugins import PluginManager
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules
from decentraspace.removing import Removing

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

EXIT_CODE_ERROR = 2


class Node:
    """One node: `with Node(config) as node`, which holds the data folder's lock until it is closed."""

    def __init__(self, config: Config, passphrase: bytes | None = None) -> None:
        self.config = config
        self._closing = ExitStack()
        data = config.data_dir
        with self._closing:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._closing.enter_context(_locked(data / "node.lock"))
            self.rules = NetworkRules.from_config(config)
            self.key = NodeKey.load_or_create(data / "node.key", passphrase)
            self.blocks = self._closing.enter_context(
                BlockStore.open(data / "blocks", quota=config.storage.quota)
            )
            self.records = RecordStore(data / "records.sqlite", self.rules, config.records)
            self._closing.callback(self.records.close)
            self.sessions = Sessions(
                data / "sessions.sqlite",
                self.rules,
                self.key.peer_id,
                config.api.token_lifetime,
                self.records.is_revoked,
                self.records.given_to,
            )
            self._closing.callback(self.sessions.close)
            self.usage = UsageStore(data / "usage.sqlite")
            self._closing.callback(self.usage.close)
            self.ledger = Ledger(data / "ledger.sqlite", config, self.sessions.tier)
            self._closing.callback(self.ledger.close)
            self.uploads = UploadStore(data / "uploads", max_bytes=config.api.max_upload)
            self.plugins = PluginManager(config.plugins)
            self.bitswap = self._make_bitswap()
            self.network = Network(config.network, self.key, self.records, self._on_accepted, self.bitswap)
            self.fetcher = Fetcher(
                self.blocks, self._providers, config.network.allow_private, exchange=self._make_exchange()
            )
            self.hosting = Hosting(
                config,
                self.key,
                self.rules,
                self.blocks,
                self.records,
                self.fetcher,
                publish=self.network.publish,
                emit=self.plugins.call,
                tier=self.ledger.tier,
                connected=lambda: [peer.peer_id for peer in self.network.peers()],
            )
            self._closing.callback(self.hosting.moderation.close)
            self.hosting.admission.credit = self.ledger
            if self.bitswap is not None:
                self.hosting.challenges.exchange = self.bitswap.ask
            self.mirroring = Mirroring(data / "mirror.sqlite", self.blocks, self.plugins)
            self._closing.callback(self.mirroring.close)
            self.hosting.holdings.on_pins = self.mirroring.changed
            self.hosting.holdings.paused = self.ledger.is_unserved
            sites = Sites(self.records, self.hosting.holdings, self.key.public)
            self.billing = Billing(
                config,
                self.ledger,
                self.usage,
                self.plugins,
                owner_of=sites.owner_of,
                held=sites.held,
                taken=sites.taken,
                reflag=self.hosting.holdings.flag,
            )
            self.hosting.shares.unpaid = self.ledger.is_removed
            self.billing.on_terms = Removing(self.ledger, self.hosting, self.plugins).look
            self.owning = Owning(self.ledger, self.records, self.hosting, self.billing.follow)
            self.billing.on_chain = self.owning.catch_up
            self._announcer = Announcer(
                config,
                self.key.public,
                self.records,
                self.hosting.announce,
                self.network.addresses,
                lambda: self.hosting.shares.willing,
                lambda: self.billing.prices,
            )
            self.hosting.leaving.on_change = self._announcer.now
            self.book = Book(data / "names.sqlite")
            self._closing.callback(self.book.close)
            self.names = NameService.of_node(config, self.records, self.plugins, self.book)
            self.linking = Linking(
                config,
                self.rules,
                self.records,
                self.names.of_links,
                self.hosting.add_link,
                self.ledger.tier,
                self.ledger,
            )
            self.buying = Buying(self.book, self.names.of_links, self.plugins, self.ledger)
            self.ledger.set_aside = self.buying.reserved
            self._control = ControlServer(
                data / "gateway.sock",
                fetch=self.fetcher.fetch_block,
                resolve=self.hosting.resolve_host,
                usage=self._on_usage,
                link=self.names.link,
            )
            self.announcing = self._make_announcing(data)
            self.started = time.time()
            # Built without an error: keep everything open beyond this block.
            self._closing = self._closing.pop_all()

    def _make_bitswap(self) -> Bitswap | None:
        if not self.config.network.bitswap:
            return None
        asked_first = {address.rpartition("/")[2] for address in self.config.network.ipfs_peers}
        return Bitswap(self.blocks, self._serves, frozenset(asked_first))

    def _make_exchange(self) -> Bitswap | Finding | None:
        if self.bitswap is None or self.network.dht is None:
            return self.bitswap
        return Finding(self.bitswap, self.network.dht, self.records.is_named)

    def _make_announcing(self, data: Path) -> Announcing | None:
        if self.network.dht is None:
            return None
        schedule = Schedule(data / "dht.sqlite")
        self._closing.callback(schedule.close)
        held = self.hosting.holdings
        return Announcing(
            self.network.dht,
            schedule,
            held.all,
            self._roots,
            self._is_announced,
            lambda: published.current(self.records, held.holds),
        )

    def _roots(self) -> set[bytes]:
        """Of the newest version of each site and channel, if it is held. Blocking."""
        return {head.root for head in self.records.all_heads() if self.hosting.holdings.holds(head.cid)}

    def _is_announced(self, root: bytes) -> bool:
        return not self.hosting.shares.leaving and self._serves(root)

    def _serves(self, cid: bytes) -> bool:
        """Whether IPFS peers get that block: what the gateway would serve, and nothing else. Blocking."""
        known = self.blocks.has if self.config.gateway.open_relay else self.blocks.referenced
        return known(cid) and self.hosting.moderation.rules.find_block(cid) is None

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run every part until cancelled; started when the node serves and takes deploys."""
        try:
            await self._run(task_status)
        finally:
            await self.plugins.close()

    async def _run(self, task_status: TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await self.plugins.load(self)
            await nursery.start(self.network.run)
            await nursery.start(self.hosting.run)
            if self.plugins.having("chain_events"):
                self.hosting.admission.look_at_chain = self.linking.look_at_chain = self.owning.look
                await self.owning.catch_up()
            nursery.start_soon(self.mirroring.run)  # once pins follow the records
            await nursery.start(self.names.run)
            await nursery.start(self.billing.run)
            await nursery.start(self.buying.run)
            await nursery.start(serve_gateway_and_control, self.config, self._control)
            await nursery.start(serve_api, create_app(self), self.config)
            nursery.start_soon(run_gc, self.blocks, self.config.storage)
            nursery.start_soon(run_scrub, self.blocks, self.fetcher.fetch_block, self.config.storage)
            nursery.start_soon(self._announcer.run)
            if self.announcing is not None:
                nursery.start_soon(self.announcing.run)
            log.info(
                "ready",
                version=__version__,
                peer_id=self.key.peer_id,
                api=self.config.api_url,
                gateway=self.config.gateway_url,
                network=self.config.network.name,
            )
            if trouble := reach.trouble(self.config):
                log.warning("not_reachable", reason=trouble[0], hint=trouble[1])
            task_status.started()
            await self.plugins.call("node_started")

    async def ready(self) -> dict[str, Any]:
        """What /readyz says. Not ready: the gateway hangs or has ended, until it is started again."""
        return {
            "ready": self._control.alive(),
            "peer_id": self.key.peer_id,
            "peers": len(self.network.peers()),
            "version": __version__,
            "leaving": self.hosting.shares.leaving,
        }

    def is_admin(self, owner: bytes) -> bool:
        named = [a for a in (self.config.node.operator, *self.config.node.admins) if a]
        return owner in {parse_address(a) for a in named}

    async def _on_accepted(self, result: Any) -> None:
        await self.hosting.on_accepted(result)

    async def _providers(self, root: bytes) -> list[Provider]:
        connected = {peer.peer_id for peer in self.network.peers()}
        return await trio.to_thread.run_sync(
            providers.ranked, self.records, root, connected, self.key.public, int(time.time())
        )

    async def _on_usage(self, worker: str, number: int, rows: list[UsageRow]) -> None:
        if await trio.to_thread.run_sync(self.usage.add_batch, worker, number, rows):
            # Not for a batch that was counted before: who bills would bill it twice.
            await self.plugins.call("usage_recorded", rows=rows)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the data folder: two nodes in one folder would ruin each other's work."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"Another node is running in {path.parent}",
                hint="Stop it, or name another folder with --data-dir.",
            ) from error
        yield
    finally:
        os.close(descriptor)


async def run_node(config: Config, passphrase: bytes | None = None) -> int:
    """Run a node until SIGINT or SIGTERM (exit code 0) or an expected failure (2, one line on stderr)."""
    try:
        node = await trio.to_thread.run_sync(Node, config, passphrase)
    except DecentraSpaceError as error:
        return _complain(error)
    code = 0
    try:
        with node:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_signal, nursery.cancel_scope)
                nursery.start_soon(node.run)
    except* DecentraSpaceError as group:
        code = _complain(innermost(group))
    return code


async def _until_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()
            return


def _complain(error: BaseException) -> int:
    sys.stderr.write(f"error: {in_words(error)}\n")
    return EXIT_CODE_ERROR
