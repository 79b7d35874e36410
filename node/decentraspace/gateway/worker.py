"""A gateway worker: an RSGI application that answers from the block store.

The path of a request: host -> site index (read every time, so a switch of version is atomic) -> prepared
page in memory (never stale: it is keyed by root) -> answer. Only a miss renders, in a thread, and only a
missing block asks the node.

    routing    who is asked for           prepared   pages, kept              answers   all other forms
    names      keys and other names       render     how a page is made       sending   on its way, counted
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import lmdb

from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput, Blocked, Unavailable
from decentraspace.gateway import formats, negotiate, pipe
from decentraspace.gateway.answers import Answers
from decentraspace.gateway.control import ControlClient, beat
from decentraspace.gateway.links import Known, Links
from decentraspace.gateway.names import Names
from decentraspace.gateway.page import CORS, NOSNIFF, Page
from decentraspace.gateway.prepared import Pages
from decentraspace.gateway.refusals import Refusals
from decentraspace.gateway.render import PARTS
from decentraspace.gateway.request import Answered, Settings, host_of, refusal
from decentraspace.gateway.routing import Router
from decentraspace.gateway.sending import Sender
from decentraspace.gateway.supply import Supply
from decentraspace.gateway.usage import UsageCounter

SETTINGS_VARIABLE = "DECENTRASPACE_GATEWAY_SETTINGS"
_ALLOWED = "GET, HEAD, OPTIONS"


class Gateway:
    """`__rsgi__` is the application Granian runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = BlockStore.open(Path(settings.blocks), readonly=True)
        self.store.env.reader_check()  # a worker that was killed leaves its place in the readers' table
        self.control = ControlClient(settings.socket)
        self.refusals = Refusals(self.store, settings.contact, settings.api)
        self.supply = Supply(self.store, self.control, settings.fetch_timeout, self.refusals.check_block)
        self.usage = UsageCounter(self.control)
        links = Links(ControlClient(settings.socket), settings.name_timeout)
        known = Known(self.control)
        self.names = Names(self.store, self.supply, links, known, self.refusals)
        self.router = Router(settings, self.store, known, self.names, self.refusals)
        self.pages = Pages(self.supply, self.refusals, settings.cache_bytes)
        self.sender = Sender(self.supply, self.usage, pipe.folder(Path(settings.socket).parent))
        self.answers = Answers(self.supply, self.names, self.sender)
        self._known_site, self._known_pages = self.router.known_site, self.pages.known
        self._tasks: list[asyncio.Task[None]] = []

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        for work in (
            self.usage.run(),
            beat(self.settings.socket),
            self.refusals.watch(self._forget),
        ):
            self._tasks.append(loop.create_task(work))

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        for task in self._tasks:
            task.cancel()
        loop.run_until_complete(self.usage.flush_all())

    def _forget(self) -> None:
        """The rules of what is refused have changed."""
        self.pages.forget()
        self.router.forget()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        method = scope.method
        if method not in ("GET", "HEAD"):
            _refuse_method(method, protocol)
            return
        try:
            await self._answer(scope, protocol, method)
        except Answered as answered:
            self.sender.send(answered.page, answered.site, method, protocol)
        except Blocked as error:
            self.sender.send(self.refusals.page(error), "", method, protocol)
        except (lmdb.Error, Unavailable):
            page = refusal(503, "Not right now", "The node's store cannot be read just now. Try again.").page
            page = page._replace(headers=[*page.headers, ("retry-after", "1")])
            self.sender.send(page, "", method, protocol)

    async def _answer(self, scope: Any, protocol: Any, method: str) -> None:
        headers, path, query = scope.headers, scope.path, scope.query_string
        host = scope.authority or host_of(headers, scope.http_version)
        accept = headers.get("accept") or ""
        request = _ORDINARY
        target = self._known_site(host, path)
        if target is None:
            request = _wanted(query, accept, site=False)
            if request.form == formats.NAME_RECORD and path.startswith("/ipns/"):
                await self.answers.record(path.split("/")[2], request, headers, protocol, method)
                return
            target = await self.router.find(host, path, scope)
            if target.site:
                request = _wanted(query, accept, site=True)
        elif query or "vnd.ip" in accept or _TAR in accept:
            request = _wanted(query, accept, site=True)
        if request.form and await self.answers.give(target, request, headers, protocol, method):
            return
        asked = headers.get("range") if method == "GET" else None  # RFC 9110 section 14.2
        # A part can only be given of what is stored, not of what was compressed from it.
        encoding = negotiate.encoding_for(headers.get("accept-encoding") or "") if asked is None else PARTS
        key = (target.root, target.path, encoding, target.mode.key)
        page = self._known_pages.get(key)
        if page is None:
            page = await self.pages.get(target, key)
        else:
            self._known_pages.move_to_end(key)
        if (
            request is _ORDINARY
            and asked is None
            and page.body is not None
            and not page.location
            and headers.get("if-none-match") is None
        ):
            self.sender.send(page, target.site, method, protocol)
        elif page.native:
            await self.answers.document(target, request, page, headers, protocol, method)
        else:
            page = _for_this_request(page, request, target.path, query)
            await self.sender.answer(target, page, asked, headers, protocol, method)


_ORDINARY = formats.Request()
_TAR = formats.TYPES[formats.TAR]


def _wanted(query: str, accept: str, *, site: bool) -> formats.Request:
    try:
        return formats.wanted(query, accept, site=site)
    except BadInput as error:
        raise refusal(400, "Bad request", str(error)) from error


def _for_this_request(page: Page, request: formats.Request, path: str, query: str) -> Page:
    """What the query changes of a prepared page."""
    if page.location:
        return page._replace(location=negotiate.with_query(page.location, query))
    if page.status == 200 and (request.filename or request.download):
        save = "attachment" if request.download else "inline"
        filename = request.filename or path.rpartition("/")[2] or page.etag.strip('"')
        headers = dict(page.headers) | {"content-disposition": formats.disposition(save, filename)}
        return page._replace(headers=list(headers.items()))
    return page


def _refuse_method(method: str, protocol: Any) -> None:
    if method == "OPTIONS":
        protocol.response_empty(
            204, [("allow", _ALLOWED), NOSNIFF, *CORS, ("access-control-max-age", "86400")]
        )
    else:
        protocol.response_empty(405, [("allow", _ALLOWED), NOSNIFF, ("content-length", "0")])


def create() -> Gateway:
    """What Granian calls in each worker process."""
    from decentraspace.gateway.process import die_with_parent

    die_with_parent()
    return Gateway(Settings(**json.loads(os.environ[SETTINGS_VARIABLE])))


__all__ = ["SETTINGS_VARIABLE", "Gateway", "Settings", "create"]
