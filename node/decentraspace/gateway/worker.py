"""A gateway worker: what answers requests, from the block store.

The path of a request: host -> site index (read every time, so a switch of version is atomic) -> prepared
page in memory (never stale: it is keyed by root) -> answer. Only a miss renders, in a thread, and only a
missing block asks the node. What is in memory is answered without a task (`at_once`).

    routing    who is asked for           prepared   pages, kept              answers   all other forms
    names      keys and other names       render     how a page is made       sending   on its way, counted
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import lmdb

from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput, Blocked, Unavailable
from decentraspace.gateway import formats, negotiate
from decentraspace.gateway.answers import Answers
from decentraspace.gateway.control import ControlClient, beat
from decentraspace.gateway.http import ALLOWED, Exchange
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


class Gateway:
    """The application behind a worker's server: `start` it, have it answer, `stop` it."""

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
        self.sender = Sender(self.supply, self.usage)
        self.answers = Answers(self.supply, self.names, self.sender)
        self._known_site, self._known_pages = self.router.known_site, self.pages.known
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """In the worker's event loop: hand over what is counted, show life, follow the rules of refusal."""
        for work in (
            self.usage.run(),
            beat(self.settings.socket),
            self.refusals.watch(self._forget),
        ):
            self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def stop(self) -> None:
        """Hand over the rest."""
        for task in self._tasks:
            task.cancel()
        await self.usage.flush_all()

    def _forget(self) -> None:
        """The rules of what is refused have changed."""
        self.pages.forget()
        self.router.forget()

    def at_once(self, scope: Exchange, protocol: Exchange) -> bool:
        """Most requests: for a page of a site, in memory. False for all others, also those that are refused."""
        method, headers, path = scope.method, scope.headers, scope.path
        if method not in ("GET", "HEAD") or "range" in headers or "format=" in scope.query_string:
            return False
        accept = headers.get("accept", "")
        if "vnd.ip" in accept or _TAR in accept:
            return False
        try:
            target = self._known_site(scope.authority or headers.get("host", ""), path)
        except (Answered, Blocked, lmdb.Error):
            return False
        if target is None:
            return False
        key = (
            target.root,
            target.path,
            negotiate.encoding_for(headers.get("accept-encoding", "")),
            target.mode.key,
        )
        page = self._known_pages.get(key)
        if page is None or page.body is None or page.location or page.native:
            return False
        self._known_pages.move_to_end(key)
        tag = headers.get("if-none-match")
        if tag is not None and page.status == 200 and negotiate.etag_matches(tag, page.etag):
            self.sender.not_modified(page.headers, target.site, protocol)
        else:
            self.sender.send(page, target.site, method, protocol)
        return True

    async def answer(self, scope: Exchange, protocol: Exchange) -> None:
        """Any request; cancelled when its client leaves."""
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

    async def _answer(self, scope: Exchange, protocol: Exchange, method: str) -> None:
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
        if page.native:
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


def _refuse_method(method: str, protocol: Exchange) -> None:
    if method == "OPTIONS":
        protocol.response_empty(
            204, [("allow", ALLOWED), NOSNIFF, *CORS, ("access-control-max-age", "86400")]
        )
    else:
        protocol.response_empty(405, [("allow", ALLOWED), NOSNIFF, ("content-length", "0")])


def create() -> Gateway:
    """As the node says in the environment."""
    return Gateway(Settings(**json.loads(os.environ[SETTINGS_VARIABLE])))


__all__ = ["SETTINGS_VARIABLE", "Gateway", "Settings", "create"]
