"""The node's one way to what a name stands for, by what the name ends with; a step at a time.

    set by the operator (gateway.dnslink)   always first
    .TLD                                    the resolver that is there for it
    all others                              DNSLink

Which resolver is asked is never the visitor's choice: one name shows the same to everybody, so what scripts of
one owner may do on its origin, those of another never can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from decentraspace.config import Config
from decentraspace.names import links
from decentraspace.names.cache import Bounds, Cache, LookUp
from decentraspace.names.links import Answer

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_SET_FOR = 60.0  # seconds that what the operator has set holds, and that a name stands for nothing
_MARGIN = 1.0  # seconds from here to a gateway worker and back


class NameService:
    """`resolvers`: what is asked of names that end in a label, without its dot; "" for all others."""

    def __init__(self, fixed: Mapping[str, str], resolvers: Mapping[str, LookUp], cache: Cache) -> None:
        self._fixed, self._resolvers, self.cache = fixed, resolvers, cache

    @classmethod
    def from_config(
        cls,
        config: Config,
        resolvers: Mapping[str, LookUp] | None = None,
        bounds: Bounds | None = None,
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
        return cls(fixed, asked, cache)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Needed by `link`; until cancelled."""
        await self.cache.run(task_status=task_status)

    async def link(self, name: str) -> Answer:
        """Where one name leads: a content path, which may be of another name. NotResolved when nobody can say."""
        plain = name.lower().removesuffix(".")
        if plain in self._fixed:
            return Answer(self._fixed[plain], _SET_FOR)
        found = links.normal(plain)
        if found is None or (found.rpartition(".")[2] not in self._resolvers and "" not in self._resolvers):
            return Answer(None, _SET_FOR)
        return await self.cache.get(found)


def patience(config: Config) -> float:
    """Seconds that whoever asks for a name by way of a socket waits for an answer."""
    return config.names.timeout + _MARGIN
