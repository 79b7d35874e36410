"""Prepared pages, kept in memory: never stale, as each is of a root."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from decentraspace.errors import Blocked, DecentraSpaceError, Unavailable
from decentraspace.gateway.page import Page
from decentraspace.gateway.refusals import Refusals
from decentraspace.gateway.render import Renderer
from decentraspace.gateway.request import Answered, Target, refusal
from decentraspace.gateway.supply import Supply

PageKey = tuple[bytes, str, str, str]  # root, path, encoding, key of the mode


class Pages:
    """`known` has what is ready, by its key; `get` makes what is not. `most`: bytes kept."""

    def __init__(self, supply: Supply, refusals: Refusals, most: int) -> None:
        self._supply, self._refusals, self._most = supply, refusals, most
        self._renderer = Renderer(supply.verified, most // 4)
        self.known: OrderedDict[PageKey, Page] = OrderedDict()
        self._size = 0
        self._rendering: dict[PageKey, asyncio.Task[Page]] = {}

    def forget(self) -> None:
        """The rules of what is refused have changed."""
        self.known.clear()
        self._size = 0
        self._renderer = Renderer(self._supply.verified, self._most // 4)

    async def get(self, target: Target, key: PageKey) -> Page:
        """A page, made once for all who wait for it, and kept."""
        task = self._rendering.get(key)
        if task is None:
            task = self._rendering[key] = asyncio.get_running_loop().create_task(self._make(target, key))
            task.add_done_callback(lambda _: self._rendering.pop(key, None))
        try:
            return await asyncio.shield(task)
        except TimeoutError as error:
            raise refusal(
                504, "Not in time", "No node gave the content in time. Try again.", target.site
            ) from error
        except (Unavailable, Answered, Blocked):
            raise
        except DecentraSpaceError as error:
            raise refusal(502, "Content is damaged", str(error), target.site) from error

    async def _make(self, target: Target, key: PageKey) -> Page:
        epoch = self._refusals.epoch
        page = await self._supply.patiently(
            target.root, lambda: self._renderer.render(target.root, target.path, target.mode, key[2])
        )
        cost = _cost(key, page)
        # What the gateway itself says of a path that is not there is soon made again; many are such paths.
        kept = page.keep and cost <= self._most // 8 and (page.status < 400 or page.etag)
        if kept and epoch == self._refusals.epoch:
            if key not in self.known:
                self._size += cost
            self.known[key] = page
            while self._size > self._most:
                self._size -= _cost(*self.known.popitem(last=False))
        return page


def _cost(key: PageKey, page: Page) -> int:
    return len(page.body or b"") + 1024 + len(key[1])
