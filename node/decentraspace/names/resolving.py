"""What plugins say a name stands for, as the rest of the node has it: a content path, or a site."""

from __future__ import annotations

from typing import Any, Protocol

import trio

from decentraspace.content import cid as cids
from decentraspace.content import ipns
from decentraspace.errors import BadInput, DecentraSpaceError
from decentraspace.names import links
from decentraspace.names.cache import LookUp
from decentraspace.names.links import Answer, NotResolved
from decentraspace.records.store import RecordStore

_HOLDS = 60.0  # seconds, where the plugin does not say


class Plugins(Protocol):
    async def one(self, plugin: str, hook: str, **arguments: Any) -> Any: ...


def by_plugin(plugins: Plugins, plugin: str, records: RecordStore) -> LookUp:
    """The look-up that asks this one plugin."""

    async def look_up(name: str) -> Answer:
        try:
            value = await plugins.one(plugin, "name_resolve", name=name)
        except DecentraSpaceError as error:
            raise NotResolved(str(error)) from error
        if value is None or value["kind"] == "none":
            return Answer(None, float(value.get("ttl", _HOLDS)) if value else _HOLDS)
        path = await trio.to_thread.run_sync(_path, value, records)
        return Answer(path, float(value.get("ttl", _HOLDS)))

    return look_up


def _path(value: dict[str, Any], records: RecordStore) -> str | None:
    """What a plugin said comes from somebody's record on a chain, so it may be anything. NotResolved."""
    kind, text, below = value["kind"], value["value"], value.get("path", "")
    if len(below) > links.PATH_MOST:
        raise NotResolved("The name leads to a path that is too long")
    try:
        if kind == "ipfs":
            return f"/ipfs/{cids.to_text(cids.parse(text))}{below}"
        if kind == "ipns":
            name = links.normal(text) if "." in text else ipns.name_text(ipns.parse_name(text))
            if name is None:
                raise BadInput("no name")
            return f"/ipns/{name}{below}"
    except BadInput as error:
        raise NotResolved(f"The name leads to {text[:100]!r}, which is no content: {error}") from error
    host = text.lower()
    head = records.head(host) or records.at_host(host)
    return links.SITE + head.host_label if head is not None else None
