"""What plugins may use of a node: small, blocking (hooks run in threads of their own), and stable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from decentraspace.content import cid as cids
from decentraspace.content import reader
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import DecentraSpaceError

__all__ = ["ApiRequest", "ApiResponse", "ApiRoute", "DecentraSpaceError", "NodeAPI"]


class ApiRequest(NamedTuple):
    """A request to a plugin's endpoint. `owner`: the wallet logged in (0x…), or None."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    owner: str | None


class ApiResponse(NamedTuple):
    """`body`: something JSON can say."""

    body: Any
    status: int = 200


class ApiRoute(NamedTuple):
    """`path`: below /plugins/NAME, starts and ends with a slash; `handler(request)` gives an ApiResponse."""

    method: str
    path: str
    handler: Callable[[ApiRequest], ApiResponse]


@dataclass(frozen=True)
class NodeAPI:
    """One plugin's view of its node. `settings`: its table `[plugin.NAME]`; `data_dir`: a folder of its own."""

    plugin: str
    version: str
    peer_id: str
    network: str
    settings: Mapping[str, Any]
    data_dir: Path
    _blocks: BlockStore

    @property
    def log(self) -> Any:
        """A structlog logger that names the plugin."""
        return structlog.get_logger("decentraspace.plugin").bind(plugin=self.plugin)

    def get_block(self, cid: str) -> bytes | None:
        """A block of this node's store, or None. BadInput for a malformed CID."""
        return self._blocks.get(cids.parse(cid))

    def put_block(self, cid: str, data: bytes) -> None:
        """Store a block, durably. Unprocessable if it does not match its CID; QuotaExceeded."""
        self._blocks.put_many([(cids.parse(cid), data)], verify=True)

    def walk(self, root: str) -> Iterator[tuple[str, bytes]]:
        """(CID, block) of all blocks under `root`, depth first, each once. BlockMissing."""
        for cid, data in reader.walk(self._blocks.get_or_raise, cids.parse(root)):
            yield cids.to_text(cid), data

    def missing(self, root: str) -> list[str]:
        """Blocks under `root` that are not here and whose parents are; at most 1000."""
        return [cids.to_text(cid) for cid in self._blocks.missing(cids.parse(root))]
