"""A gateway worker: an RSGI application that answers from the block store.

The path of a request: host -> site index (read every time, so a switch of version is atomic) -> prepared
page in memory (never stale: it is keyed by root) -> answer. Only a miss renders, in a thread, and only a
missing block asks the node.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import lmdb

from decentraspace.content import cid as cids
from decentraspace.content import reader, siteindex
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput, Blocked, DecentraSpaceError, NotFound, Unavailable
from decentraspace.gateway import negotiate, pipe, trustless
from decentraspace.gateway.control import ControlClient, beat
from decentraspace.gateway.pipe import ClientGone, PipeBody
from decentraspace.gateway.refusals import Refusals
from decentraspace.gateway.render import Headers, Mode, Page, Renderer, error_page
from decentraspace.gateway.supply import Supply
from decentraspace.gateway.usage import UsageCounter

SETTINGS_VARIABLE = "DECENTRASPACE_GATEWAY_SETTINGS"
_UNKNOWN_FOR = 2.0  # seconds a host that the node does not know is not asked for again
_PATH_MOST = 8192  # characters, decoded
_AT_ONCE = 1024 * 1024  # bytes of a body that is sent from memory; what is larger goes through a pipe
_LABEL = re.compile(r"[a-z0-9.-]{1,253}")
_HOST = re.compile(r"([A-Za-z0-9._-]{1,254}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_ALLOWED = "GET, HEAD, OPTIONS"
_NO_CONTENT = cids.parse("bafkqaaa")  # the empty block: what clients ask a gateway for to see if it is one


class Settings(NamedTuple):
    """What a worker is told by its node. `cache_bytes`: of prepared pages; `contact`, `api`: how visitors reach
    the operator, empty where they cannot."""

    blocks: str
    socket: str
    domain: str
    open_relay: bool
    autoindex: bool
    cache_bytes: int
    fetch_timeout: float
    contact: str = ""
    api: str = ""


class Target(NamedTuple):
    """What a request is for: `site` is a site id or empty; `path` decoded, below `root`."""

    site: str
    root: bytes
    path: str
    mode: Mode


class Answered(Exception):
    """A request is answered with `page`, whatever it was for. `site`: whose usage it is."""

    def __init__(self, page: Page, site: str = "") -> None:
        self.page, self.site = page, site


def refusal(status: int, title: str, detail: str, site: str = "") -> Answered:
    return Answered(error_page(status, title, detail, [("cache-control", "no-store")]), site)


class Gateway:
    """`__rsgi__` is the application Granian runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = BlockStore.open(Path(settings.blocks), readonly=True)
        self.store.env.reader_check()  # a worker that was killed leaves its place in the readers' table
        self.control = ControlClient(settings.socket)
        self.refusals = Refusals(self.store, settings.contact, settings.api)
        self.supply = Supply(self.store, self.control, settings.fetch_timeout, self.refusals.check_block)
        self.renderer = Renderer(self.supply.verified, settings.cache_bytes // 4)
        self.usage = UsageCounter(self.control)
        self._suffix = "." + settings.domain
        self._cid_suffix = ".ipfs." + settings.domain
        self._pages: OrderedDict[PageKey, Page] = OrderedDict()
        self._pages_size = 0
        self._rendering: dict[PageKey, asyncio.Task[Page]] = {}
        self._entries: dict[bytes, siteindex.SiteEntry] = {}
        self._targets: dict[tuple[bytes, str], Target] = {}
        self._unknown: dict[str, float] = {}
        self._reporting: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._pipes = pipe.folder(Path(settings.socket).parent)
        self._site_mode = Mode("", False, True, settings.autoindex)
        self._cid_mode = Mode("", True, True, settings.autoindex)
        self._hosts = self.store.db["hosts"]
        self._begin = self.store.env.begin

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reporting = loop.create_task(self.usage.run())
        self._beating = loop.create_task(beat(self.settings.socket))
        self._watching = loop.create_task(self.refusals.watch(self._forget))

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        for task in (self._reporting, self._beating, self._watching):
            if task is not None:
                task.cancel()
        loop.run_until_complete(self.usage.flush_all())

    def _forget(self) -> None:
        """The rules of what is refused have changed."""
        self._pages.clear()
        self._pages_size = 0
        self._targets.clear()
        self.renderer = Renderer(self.supply.verified, self.settings.cache_bytes // 4)

    # -- requests

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        method = scope.method
        if method not in ("GET", "HEAD"):
            _refuse_method(method, protocol)
            return
        try:
            await self._answer(scope, protocol, method)
        except Answered as answered:
            self._send(answered.page, answered.site, method, protocol)
        except Blocked as error:
            self._send(self.refusals.page(error), "", method, protocol)
        except (lmdb.Error, Unavailable):
            page = refusal(503, "Not right now", "The node's store cannot be read just now. Try again.").page
            self._send(page._replace(headers=[*page.headers, ("retry-after", "1")]), "", method, protocol)

    async def _answer(self, scope: Any, protocol: Any, method: str) -> None:
        headers, path = scope.headers, scope.path
        host = scope.authority or _host_of(headers, scope.http_version)
        target = self._known_site(host, path) or await self._target(host, path, scope)
        accept = headers.get("accept") or ""
        if scope.query_string or "vnd.ipld" in accept:
            try:
                request = trustless.wanted(scope.query_string, accept)
            except BadInput as error:
                raise refusal(400, "Bad request", str(error), target.site) from error
            if request is not None:
                await self._trustless(target, request, headers, protocol, method)
                return
        asked = headers.get("range") if method == "GET" else None  # RFC 9110 section 14.2
        # A part can only be given of what is stored, not of what was compressed from it.
        encoding = (
            negotiate.encoding_for(headers.get("accept-encoding") or "") if asked is None else "identity"
        )
        key = (target.root, target.path, encoding, target.mode)
        page = self._pages.get(key)
        if page is None:
            page = await self._render(target, key)
        else:
            self._pages.move_to_end(key)
        tag = headers.get("if-none-match")
        if tag is not None and page.status == 200 and negotiate.etag_matches(tag, page.etag):
            self._not_modified(page.headers, target.site, protocol)
            return
        if page.location:
            page = page._replace(location=negotiate.with_query(page.location, scope.query_string))
        elif asked is not None and page.status == 200 and _unchanged(headers.get("if-range"), page):
            span = negotiate.single_range(asked, page.size)
            if span is not None:
                await self._part(target, page, span, protocol)
                return
        if page.body is not None or method == "HEAD":
            self._send(page, target.site, method, protocol)
        else:
            await self._file(target, page, page.status, 0, page.size, page.headers, protocol)

    def _known_site(self, host: str, path: str) -> Target | None:
        """The hot path: a site of the index, on its own host."""
        name, _, port = host.partition(":")
        if not name.endswith(self._suffix) or (port and not port.isdigit()):
            return None
        label = name[: -len(self._suffix)]
        if not label or len(label) > siteindex.MAX_LABEL or not path.startswith("/"):
            return None
        with self._begin() as txn:
            raw = txn.get(label.encode("ascii", "replace"), db=self._hosts)
        if raw is None or len(path) > _PATH_MOST:
            return None
        target = self._targets.get((raw, path))
        if target is None:
            entry = self._entries.get(raw)
            if entry is None:
                entry = siteindex.decode(raw)
                if len(self._entries) > 10_000:
                    self._entries.clear()
                self._entries[raw] = entry
            if entry.flags:
                return None
            self.refusals.check_site(entry, name, path)
            target = Target(entry.site_id, entry.root, path, self._site_mode)
            if len(path) <= 256:  # longer ones would let strangers fill the memory
                if len(self._targets) > 50_000:
                    self._targets.clear()
                self._targets[raw, path] = target
        return target

    async def _target(self, host: str, path: str, scope: Any) -> Target:
        """Everything else: unknown hosts, paused sites, CIDs, and what is wrong."""
        found = _HOST.fullmatch(host)
        if (found is None and host) or not path.startswith("/"):
            raise refusal(400, "Bad request", "The request does not say properly what it is for.")
        if len(path) > _PATH_MOST:
            raise refusal(414, "Too long", f"A path has at most {_PATH_MOST} characters.")
        name = found[1].lower().rstrip(".") if found else ""
        if name.endswith(self._cid_suffix):
            return await self._by_cid(name[: -len(self._cid_suffix)], path, scope.headers)
        if name.endswith(self._suffix):
            return await self._by_label(name[: -len(self._suffix)], path)
        if path.startswith("/ipfs/"):
            return await self._by_path(name, host, path, scope)
        raise refusal(
            404,
            "No site here",
            f"This is a DecentraSpace gateway. Sites have hosts like LABEL--ID.{self.settings.domain}, "
            "content has paths like /ipfs/CID.",
        )

    async def _by_label(self, label: str, path: str) -> Target:
        raw = self._index(label)
        if raw is None and _LABEL.fullmatch(label) and await self._resolved(label):
            raw = self._index(label)
        if raw is None:
            raise refusal(
                404, "No such site", "No node that this one knows has published a site with this name."
            )
        entry = siteindex.decode(raw)
        if entry.flags & siteindex.FLAG_BLOCKED:
            raise Answered(self.refusals.page(self.refusals.site(entry)), entry.site_id)
        if entry.flags & siteindex.FLAG_PAUSED:
            raise refusal(402, "Paused", "This site is paused until its owner adds credit.", entry.site_id)
        self.refusals.check_site(entry, label + self._suffix, path)
        return Target(entry.site_id, entry.root, path, self._site_mode)

    def _index(self, label: str) -> bytes | None:
        if not label or len(label) > siteindex.MAX_LABEL or not label.isascii():
            return None
        with self._begin() as txn:
            raw: bytes | None = txn.get(label.encode(), db=self._hosts)
            return raw

    async def _by_cid(self, label: str, path: str, headers: Any) -> Target:
        root = _parse(label)
        self.refusals.check_content(root, path)
        await self._check_served(root, headers)
        return Target("", root, path, self._cid_mode)

    async def _by_path(self, name: str, host: str, path: str, scope: Any) -> Target:
        text, slash, rest = path[len("/ipfs/") :].partition("/")
        root = _parse(text)
        self.refusals.check_content(root, rest)
        await self._check_served(root, scope.headers)
        plain = cids.to_text(root)
        accept = scope.headers.get("accept") or ""
        machine = "format=" in scope.query_string or "vnd.ipld" in accept
        if name == self.settings.domain and len(plain) <= siteindex.MAX_LABEL and not machine:
            # Browsers get the form in which every root has an origin of its own. Without a scheme: only
            # what stands in front of the gateway knows it.
            to = negotiate.with_query(f"//{plain}.ipfs.{host}/{quote(rest)}", scope.query_string)
            raise Answered(Page(301, [("cache-control", "public, max-age=3600")], b"", location=to))
        return Target("", root, slash + rest, Mode("/ipfs/" + plain, True, False, self.settings.autoindex))

    async def _check_served(self, root: bytes, headers: Any) -> None:
        """Content that a CID itself carries is somebody's invention: it could link to anything there is."""
        if "only-if-cached" in (headers.get("cache-control") or "") and not self.store.has(root):
            # https://specs.ipfs.tech/http-gateways/path-gateway/#cache-control-request-header
            raise refusal(412, "Not here", "This node does not have that content.")
        if self.settings.open_relay or root == _NO_CONTENT or self.store.referenced(root):
            return
        # Not held here; the node knows whether a site consists of it.
        if cids.identity_data(root) is not None or not await self._resolved(cids.to_text(root)):
            raise refusal(
                404, "Not served here", "This node serves what its sites consist of, and nothing else."
            )

    async def _resolved(self, name: str) -> bool:
        """Ask the node about a host, at most once in a while."""
        now = asyncio.get_running_loop().time()
        if self._unknown.get(name, 0.0) > now:
            return False
        if await self.control.ask("resolve", 5.0, host=name):
            return True
        if len(self._unknown) > 10_000:
            self._unknown.clear()
        self._unknown[name] = now + _UNKNOWN_FOR
        return False

    # -- pages

    async def _render(self, target: Target, key: PageKey) -> Page:
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
        epoch = self.refusals.epoch
        page = await self.supply.patiently(
            target.root, lambda: self.renderer.render(target.root, target.path, target.mode, key[2])
        )
        cost = _cost(key, page)
        # What the gateway itself says of a path that is not there is soon made again; many are such paths.
        kept = cost <= self.settings.cache_bytes // 8 and (page.status < 400 or bool(page.etag))
        if kept and epoch == self.refusals.epoch:
            if key not in self._pages:
                self._pages_size += cost
            self._pages[key] = page
            while self._pages_size > self.settings.cache_bytes:
                self._pages_size -= _cost(*self._pages.popitem(last=False))
        return page

    # -- answers

    def _send(self, page: Page, site: str, method: str, protocol: Any) -> None:
        """All of a page that is in memory, or only its headers."""
        if page.location:
            headers = [*page.headers, ("location", page.location), ("content-length", "0")]
            self.usage.add(site, page.status, 0)
            protocol.response_empty(page.status, headers)
        elif method == "HEAD":
            self.usage.add(site, page.status, 0)
            protocol.response_empty(page.status, [*page.headers, ("content-length", str(page.size))])
        else:
            self.usage.add(site, page.status, page.size)
            protocol.response_bytes(page.status, page.headers, page.body)

    def _not_modified(self, headers: Headers, site: str, protocol: Any) -> None:
        self.usage.add(site, 304, 0)
        protocol.response_empty(304, [h for h in headers if h[0] not in _OF_THE_BODY])

    async def _part(self, target: Target, page: Page, span: tuple[int, int] | bool, protocol: Any) -> None:
        if isinstance(span, bool):
            self.usage.add(target.site, 416, 0)
            headers = [("content-range", f"bytes */{page.size}"), ("content-length", "0")]
            protocol.response_empty(416, headers)
            return
        start, end = span
        headers = [*page.headers, ("content-range", f"bytes {start}-{end - 1}/{page.size}")]
        if page.body is not None:
            self.usage.add(target.site, 206, end - start)
            protocol.response_bytes(206, headers, page.body[start:end])
        else:
            await self._file(target, page, 206, start, end, headers, protocol)

    async def _file(
        self, target: Target, page: Page, status: int, start: int, end: int, headers: Headers, protocol: Any
    ) -> None:
        """Bytes of a large file, read as they are sent."""

        def parts(done: int) -> Iterator[bytes]:
            return reader.iter_file(self.supply.verified, page.stream, start + done, end)

        if end - start <= _AT_ONCE:
            try:
                body = await self.supply.patiently(target.root, lambda: b"".join(parts(0)))
            except TimeoutError as error:
                raise refusal(504, "Not in time", "No node gave the content in time.", target.site) from error
            except (Unavailable, Blocked):
                raise
            except DecentraSpaceError as error:
                raise refusal(502, "Content is damaged", str(error), target.site) from error
            self.usage.add(target.site, status, len(body))
            protocol.response_bytes(status, headers, body)
            return
        await self._stream(
            target, status, [*headers, ("content-length", str(end - start))], b"", parts, protocol
        )

    async def _stream(
        self,
        target: Target,
        status: int,
        headers: Headers,
        broken_off: bytes,
        parts: Callable[[int], Iterator[bytes]],
        protocol: Any,
    ) -> None:
        """`parts(bytes sent)` as fast as the client takes them. What cannot go on is broken off, so that no
        client takes a part for the whole: Content-Length tells, or else `broken_off`."""
        first: list[bytes] = []
        size = 0
        body: PipeBody | None = None
        try:
            try:
                async for piece in self.supply.pieces(target.root, parts):
                    if body is not None:
                        await body.write(piece)
                        continue
                    first.append(piece)
                    size += len(piece)
                    if size > _AT_ONCE:
                        body = PipeBody()
                        await body.start(self._pipes, protocol, status, headers)
                        await body.write(b"".join(first))
                        first.clear()
            except DecentraSpaceError as error:
                if body is None and isinstance(error, Blocked):
                    raise
                if body is None:
                    raise refusal(504, "Not in time", str(error), target.site) from error
                await body.write(broken_off)
            if body is None:
                self.usage.add(target.site, status, size)
                protocol.response_bytes(status, headers, b"".join(first))
        except ClientGone:
            pass
        finally:
            if body is not None:
                self.usage.add(target.site, status, body.sent)
                body.close()

    async def _trustless(
        self, target: Target, request: trustless.Request, headers: Any, protocol: Any, method: str
    ) -> None:
        segments = [part for part in target.path.split("/") if part]
        get = self.supply.verified

        def find() -> tuple[reader.Resolved, bytes]:
            found = reader.resolve(get, target.root, segments)
            return found, get(found.stat.cid) if request.form == "raw" else b""

        try:
            resolved, block = await self.supply.patiently(target.root, find)
        except NotFound as error:
            raise refusal(404, "Not found", str(error), target.site) from error
        except BadInput as error:
            raise refusal(400, "Bad request", str(error), target.site) from error
        except TimeoutError as error:
            raise refusal(504, "Not in time", "No node gave the content in time.", target.site) from error
        except (Unavailable, Blocked):
            raise
        except DecentraSpaceError as error:
            raise refusal(502, "Content is damaged", str(error), target.site) from error
        cid = resolved.stat.cid
        answer = trustless.headers_for(request, target.root, target.path, cid, target.mode.immutable)
        etag = dict(answer)["etag"]
        tag = headers.get("if-none-match")
        if tag is not None and negotiate.etag_matches(tag, etag):
            self._not_modified(answer, target.site, protocol)
        elif request.form == "raw":
            self._send(Page(200, answer, block, etag, len(block)), target.site, method, protocol)
        elif method == "HEAD":
            self.usage.add(target.site, 200, 0)
            protocol.response_empty(200, answer)
        else:
            parts = trustless.car_from(get, target.root, resolved, request)
            await self._stream(target, 200, answer, trustless.BROKEN_OFF, parts, protocol)


PageKey = tuple[bytes, str, str, Mode]
_OF_THE_BODY = frozenset({"content-type", "content-encoding", "content-disposition", "accept-ranges"})


def _cost(key: PageKey, page: Page) -> int:
    return len(page.body or b"") + 1024 + len(key[1])


def _unchanged(if_range: str | None, page: Page) -> bool:
    """Strong comparison, as If-Range wants it; a date is never right: there are none here."""
    return if_range is None or if_range.strip() == page.etag


def _host_of(headers: Any, version: str) -> str:
    """RFC 9112 section 3.2: exactly one Host, but for clients that are older than that."""
    hosts = headers.get_all("host")
    if len(hosts) == 1:
        return str(hosts[0])
    if not hosts and version in ("1", "1.0"):
        return ""
    raise refusal(400, "Bad request", "A request has exactly one Host.")


def _parse(text: str) -> bytes:
    try:
        return cids.parse(text)
    except BadInput as error:
        raise refusal(400, "Not a CID", str(error)) from error


def _refuse_method(method: str, protocol: Any) -> None:
    if method == "OPTIONS":
        protocol.response_empty(
            204,
            [
                ("allow", _ALLOWED),
                ("access-control-allow-origin", "*"),
                ("access-control-allow-methods", _ALLOWED),
                ("access-control-allow-headers", "Range, If-None-Match, Accept"),
                ("access-control-max-age", "86400"),
            ],
        )
    else:
        protocol.response_empty(405, [("allow", _ALLOWED), ("content-length", "0")])


def create() -> Gateway:
    """What Granian calls in each worker process."""
    from decentraspace.gateway.process import die_with_parent

    die_with_parent()
    return Gateway(Settings(**json.loads(os.environ[SETTINGS_VARIABLE])))


__all__ = ["SETTINGS_VARIABLE", "Gateway", "Settings", "create"]
