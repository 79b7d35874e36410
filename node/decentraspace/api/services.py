"""What the API needs of a node, and the request's view of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

import trio
from quart import current_app, g, request

from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.uploads import UploadStore
from decentraspace.errors import Forbidden, Unauthorized
from decentraspace.hosting import Hosting
from decentraspace.identity.keys import NodeKey
from decentraspace.identity.sessions import Session, Sessions
from decentraspace.ledger.usage import UsageStore
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
    plugins: PluginManager

    def is_admin(self, owner: bytes) -> bool: ...
    async def ready(self) -> dict[str, Any]: ...


def node() -> NodeServices:
    services: NodeServices = current_app.extensions["decentraspace"]
    return services


async def identify() -> Session | None:
    """Who sends this request, or None without a token. Unauthorized for a token that is not valid."""
    if "session" not in g:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token:
            g.session = None
        elif scheme.lower() != "bearer":
            raise Unauthorized("The Authorization header must be: Bearer TOKEN")
        else:
            g.session = await trio.to_thread.run_sync(node().sessions.authenticate, token.strip())
    session: Session | None = g.session
    return session


async def require(access: str) -> Session | None:
    session = await identify()
    if access == "open":
        return session
    if session is None:
        raise Unauthorized("A wallet must be logged in", hint="POST /auth/login/, or `decentraspace login`.")
    if access == "admin" and not node().is_admin(session.owner):
        raise Forbidden("Only admins of this node may do this")
    return session


async def owner() -> Session:
    """The session of an endpoint for owners."""
    session = await require("owner")
    if session is None:
        raise Unauthorized("A wallet must be logged in")
    return session


def when(seconds: int | float) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
