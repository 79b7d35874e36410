"""What a worker asks its node about names, and keeps for moments.

Known   what the node has records of, and the store not yet
Links   where names lead that are no keys; the node keeps it longer
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import NamedTuple

from decentraspace.gateway.control import ControlClient
from decentraspace.names.links import SITE

_KEPT_FOR = 2.0  # seconds; a change shows that much later
_UNKNOWN_FOR = 2.0  # seconds that what the node does not know is not asked for again
_MOST = 10_000  # names
_AT_ONCE = 200  # names that the node is asked for


class Known:
    """Asks the node about hosts, content and keys that it may know and the store lacks, each once in a while."""

    def __init__(self, control: ControlClient) -> None:
        self._control = control
        self._unknown: dict[str, float] = {}

    async def resolved(self, name: str) -> bool:
        """Whether to look into the store again."""
        now = monotonic()
        if self._unknown.get(name, 0.0) > now:
            return False
        if await self._control.ask("resolve", 5.0, host=name):
            return True
        if len(self._unknown) > _MOST:
            self._unknown.clear()
        self._unknown[name] = now + _UNKNOWN_FOR
        return False


class Link(NamedTuple):
    """`path`: where a name leads, as names/links.py has it, None for nowhere; `ttl`: seconds that holds; `failed`:
    why nobody knows."""

    path: str | None
    ttl: float
    failed: str = ""


class Links:
    """Requests for one name at one time ask the node once. `control`: for this alone, as look-ups may take long;
    `timeout`: seconds the node is waited for."""

    def __init__(self, control: ControlClient, timeout: float) -> None:
        self._control, self._timeout = control, timeout
        self._kept: dict[str, tuple[float, Link]] = {}
        self._sites: dict[str, tuple[float, str]] = {}  # of these, those that lead to a site: its host label
        self._asking: dict[str, asyncio.Task[Link]] = {}

    def site(self, name: str) -> str:
        """The host label of the site that a name shows, as far as it is known here, else "": for every request, so
        that one for a busy name never waits for the node."""
        kept = self._sites.get(name)
        if kept is None:
            return ""
        left = kept[0] - monotonic()  # not the loop's: asking which loop runs is a system call
        if left < _KEPT_FOR / 2:
            if left <= 0:
                return ""
            if name not in self._asking and len(self._asking) < _AT_ONCE:
                self._start(name)
        return kept[1]

    async def get(self, name: str) -> Link:
        kept = self._kept.get(name)
        if kept is not None and monotonic() < kept[0]:
            return kept[1]
        asking = self._asking.get(name)
        if asking is None:
            if len(self._asking) >= _AT_ONCE:
                return Link(None, 0.0, "Too many names are being looked up just now.")
            asking = self._start(name)
        return await asyncio.shield(asking)

    def _start(self, name: str) -> asyncio.Task[Link]:
        # A task of its own: whoever came first may go before the others.
        asking = self._asking[name] = asyncio.create_task(self._ask(name))
        asking.add_done_callback(lambda _: self._asking.pop(name, None))
        return asking

    async def _ask(self, name: str) -> Link:
        said = await self._control.question("link", self._timeout, name=name)
        if said.get("ok") is True:
            link = Link(said["path"], said["ttl"])
        else:
            link = Link(None, 0.0, said.get("reason") or "This node cannot look it up just now.")
        if len(self._kept) >= _MOST:
            self._kept.clear()
            self._sites.clear()
        until = monotonic() + _KEPT_FOR
        self._kept[name] = until, link
        if link.path is not None and link.path.startswith(SITE):
            self._sites[name] = until, link.path[len(SITE) :]
        else:
            self._sites.pop(name, None)
        return link
