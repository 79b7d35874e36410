"""What the API needs of a node: a Node (app.py) has it all, tests build a smaller one."""

from __future__ import annotations

from typing import Any, Protocol

from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.uploads import UploadStore
from decentraspace.hosting import Hosting
from decentraspace.identity.keys import NodeKey
from decentraspace.identity.sessions import Sessions
from decentraspace.ledger.service import Billing
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import UsageStore
from decentraspace.mirroring import Mirroring
from decentraspace.names.buying import Buying
from decentraspace.names.linking import Linking
from decentraspace.names.service import NameService
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.network.dht.announcing import Announcing
from decentraspace.network.host import Network
from decentraspace.plugins import PluginManager
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules


class NodeServices(Protocol):
    """A Node, as the API sees it."""

    config: Config
    key: NodeKey
    rules: NetworkRules
    blocks: BlockStore
    records: RecordStore
    sessions: Sessions
    hosting: Hosting
    uploads: UploadStore
    usage: UsageStore
    ledger: Ledger
    billing: Billing
    plugins: PluginManager
    bitswap: Bitswap | None
    announcing: Announcing | None
    names: NameService
    linking: Linking
    buying: Buying
    mirroring: Mirroring

    @property
    def network(self) -> Network | None: ...
    def is_admin(self, owner: bytes) -> bool: ...
    async def ready(self) -> dict[str, Any]: ...
