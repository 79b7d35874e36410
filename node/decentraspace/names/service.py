"""The node's one way to what a name stands for, by what the name ends with; a step at a time.

    set by the operator (gateway.dnslink)   always first
    linked by a record                      if its wallet has a say in the name (claims.py)
    .TLD                                    the plugin that `names.resolvers` sets for it
    all others                              DNSLink, or the plugin set for `*`

Which resolver is asked is never the visitor's choice: one name shows the same to everybody, so what scripts of
one owner may do on its origin, those of another never can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from decentraspace.config import Config
from decentraspace.names import links
from decentraspace.names.book import Book
from decentraspace.names.cache import Bounds, Cache, LookUp
from decentraspace.names.claims import Claims, Plugins
from decentraspace.names.links import Answer
from decentraspace.names.resolving import by_plugin
from decentraspace.records.store import RecordStore

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_LINKED_FOR = 2.0  # seconds: a link may end at any moment
_SET_FOR = 60.0  # seconds that what the operator has set holds, and that a name stands for nothing
_MARGIN = 1.0  # seconds from here to a gateway worker and back


class NameService:
    """`resolvers`: what is asked of names that end in a label, without its dot; "" for all others."""

    def __init__(
        self,
        fixed: Mapping[str, str],
        resolvers: Mapping[str, LookUp],
        cache: Cache,
        claims: Claims | None = None,
    ) -> None:
        self._fixed, self._resolvers, self.cache, self.claims = fixed, resolvers, cache, claims

    @classmethod
    def from_config(
        cls,
        config: Config,
        resolvers: Mapping[str, LookUp] | None = None,
        bounds: Bounds | None = None,
        claims: Claims | None = None,
    ) -> NameService:
        """With DNS as the settings say, besides `resolvers`."""
        names = config.names
        asked = dict(resolvers or {})
        if names.dns:
            from decentraspace.names.dns import Dns

            asked.setdefault("", Dns(names.nameservers, names.timeout))
        fixed = dict(link.split("=", 1) for link in config.gateway.dnslink)

        async def look_up(name: str) -> Answer:
            return await (asked.get(name.rpartition(".")[2]) or asked[""])(name)

        cache = Cache(look_up, most=names.cache, deadline=names.timeout, bounds=bounds)
        return cls(fixed, asked, cache, claims)

    @classmethod
    def of_node(
        cls,
        config: Config,
        records: RecordStore,
        plugins: Plugins,
        book: Book,
        bounds: Bounds | None = None,
    ) -> NameService:
        """With the links of names among the records, and the plugins that the settings name."""
        claims = Claims(config, records, plugins, book, bounds)
        asked = {
            "" if domain == "*" else domain: by_plugin(plugins, plugin, records)
            for domain, plugin in claims.resolvers.items()
        }
        return cls.from_config(config, asked, bounds, claims)

    @property
    def of_links(self) -> Claims:
        """Of a node's service."""
        assert self.claims is not None
        return self.claims

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Needed by `link`; until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.cache.run)
            if self.claims is not None:
                await nursery.start(self.claims.run)
            task_status.started()

    async def link(self, name: str) -> Answer:
        """Where one name leads: a content path, which may be of another name. NotResolved when nobody can say."""
        plain = name.lower().removesuffix(".")
        if plain in self._fixed:
            return Answer(self._fixed[plain], _SET_FOR)
        if self.claims is not None and (shown := await self.claims.shown(plain)) is not None:
            return Answer(links.SITE + shown.host, _LINKED_FOR)
        ends = plain.rpartition(".")[2]
        # A name of one label is nobody's but in systems that sell such.
        found = links.normal(plain, 1 if ends in self._resolvers else 2)
        if found is None or (ends not in self._resolvers and "" not in self._resolvers):
            return Answer(None, _SET_FOR)
        return await self.cache.get(found)


def patience(config: Config) -> float:
    """Seconds that whoever asks for a name by way of a socket waits for an answer."""
    return config.names.timeout + _MARGIN
