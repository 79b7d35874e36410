"""A node without network and gateway: real stores, real hosting, the real API on a loopback port."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio
from eth_account.signers.local import LocalAccount

from decentraspace.api.app import create_app
from decentraspace.api.server import serve_api
from decentraspace.config import Config, load
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.uploads import UploadStore
from decentraspace.hosting import Hosting
from decentraspace.identity.ethereum import parse_address
from decentraspace.identity.keys import NodeKey
from decentraspace.identity.sessions import Sessions, sign_proof
from decentraspace.ledger.service import Billing
from decentraspace.ledger.sites import Sites
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import UsageStore
from decentraspace.mirroring import Mirroring
from decentraspace.names.book import Book
from decentraspace.names.buying import Buying
from decentraspace.names.linking import Linking
from decentraspace.names.service import NameService
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.plugins import PluginManager
from decentraspace.records.schema import site_id
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules
from tests.records.factory import address_of, make_session, make_site, make_wallet


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class SmallNode:
    """Satisfies api.services.NodeServices."""

    def __init__(self, folder: Path, **sections: dict[str, Any]) -> None:
        overrides: dict[str, dict[str, Any]] = {
            "node": {"data_dir": str(folder), **sections.pop("node", {})},
            "api": {"port": free_port(), **sections.pop("api", {})},
            **sections,
        }
        self.config: Config = load(environ={}, overrides=overrides)
        folder.mkdir(parents=True, exist_ok=True)
        self._closing = ExitStack()
        self.rules = NetworkRules.from_config(self.config)
        self.key = NodeKey.load_or_create(folder / "node.key", None)
        self.blocks = self._closing.enter_context(
            BlockStore.open(folder / "blocks", quota=self.config.storage.quota)
        )
        self.records = RecordStore(folder / "records.sqlite", self.rules, self.config.records)
        self._closing.callback(self.records.close)
        self.sessions = Sessions(
            folder / "sessions.sqlite",
            self.rules,
            self.key.peer_id,
            self.config.api.token_lifetime,
            self.records.is_revoked,
            self.records.given_to,
        )
        self._closing.callback(self.sessions.close)
        self.usage = UsageStore(folder / "usage.sqlite")
        self._closing.callback(self.usage.close)
        self.ledger = Ledger(folder / "ledger.sqlite", self.config, self.sessions.tier)
        self._closing.callback(self.ledger.close)
        self.uploads = UploadStore(folder / "uploads", max_bytes=self.config.api.max_upload)
        self.plugins = PluginManager(self.config.plugins)
        self.bitswap = Bitswap(self.blocks, self.blocks.referenced)
        self.book = Book(folder / "names.sqlite")
        self._closing.callback(self.book.close)
        self.names = NameService.of_node(self.config, self.records, self.plugins, self.book)
        self.network = None
        self.announcing = None
        self.published: list[bytes] = []
        self.hosting = Hosting(
            self.config,
            self.key,
            self.rules,
            self.blocks,
            self.records,
            fetcher=None,  # type: ignore[arg-type]  # nothing is fetched here
            publish=self._publish,
            emit=self.plugins.call,
            tier=self.ledger.tier,
        )
        self._closing.callback(self.hosting.moderation.close)
        self.hosting.admission.credit = self.ledger
        self.linking = Linking(
            self.config,
            self.rules,
            self.records,
            self.names.of_links,
            self.hosting.add_link,
            self.ledger.tier,
            self.ledger,
        )
        self.buying = Buying(self.book, self.names.of_links, self.plugins, self.ledger)
        self.ledger.set_aside = self.buying.reserved
        sites = Sites(self.records, self.hosting.holdings, self.key.public)
        self.billing = Billing(
            self.config,
            self.ledger,
            self.usage,
            self.plugins,
            owner_of=sites.owner_of,
            held=sites.held,
            taken=sites.taken,
            reflag=self.hosting.holdings.flag,
        )
        self.mirroring = Mirroring(folder / "mirror.sqlite", self.blocks, self.plugins)
        self._closing.callback(self.mirroring.close)
        self.hosting.holdings.on_pins = self.mirroring.changed

    async def _publish(self, envelope: bytes) -> None:
        self.published.append(envelope)

    def is_admin(self, owner: bytes) -> bool:
        return owner in {parse_address(a) for a in self.config.node.admins}

    async def ready(self) -> dict[str, Any]:
        return {"peer_id": self.key.peer_id, "peers": 0, "version": "test"}

    @property
    def url(self) -> str:
        return self.config.api_url

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[httpx.AsyncClient]:
        """The API on its port; a client for it."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.hosting.run)
            await nursery.start(self.names.run)
            await nursery.start(self.buying.run)
            await nursery.start(serve_api, create_app(self), self.config)
            async with httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False) as client:
                yield client
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        self._closing.close()


class Person:
    """A wallet with a session key, and what it takes to use the API."""

    def __init__(self, node: SmallNode, *, wallet: LocalAccount | None = None, **session: Any) -> None:
        self.node = node
        self.wallet = wallet or make_wallet()
        self.address = address_of(self.wallet)
        self.key, self.delegation = make_session(self.wallet, node.rules, **session)
        self.headers: dict[str, str] = {}

    def login_body(self, challenge: dict[str, Any], **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        proof = sign_proof(self.key, self.delegation, challenge["audience"], challenge["nonce"], now)
        return {
            "message": self.delegation.message,
            "signature": "0x" + self.delegation.signature.hex(),
            "nonce": challenge["nonce"],
            "audience": challenge["audience"],
            "issued_at": now,
            "proof": base64.b64encode(proof).decode(),
            **changes,
        }

    async def log_in(self, client: httpx.AsyncClient) -> Person:
        challenge = (await client.get("/auth/login/")).json()
        answer = await client.post("/auth/login/", json=self.login_body(challenge))
        assert answer.status_code == 200, answer.text
        self.headers = {"Authorization": f"Bearer {answer.json()['token']}"}
        return self

    def site(self, root: bytes, **changes: Any) -> dict[str, str]:
        """The body of a deploy. `size`: what is here of the content, else a few bytes."""
        blocks = self.node.blocks
        if "size" not in changes and not blocks.missing(root, 1):
            changes["size"] = blocks.dag_size(root)
        record = make_site(self.wallet, (self.key, self.delegation), self.node.rules, root=root, **changes)
        return {"record": base64.b64encode(record).decode()}

    def site_id(self, label: str = "site") -> str:
        return site_id(self.address, label)
