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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from decentraspace.content import cid as cids
from decentraspace.content import reader, siteindex
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import BadInput, DecentraSpaceError, NotFound
from decentraspace.gateway import negotiate, pages, trustless
from decentraspace.gateway.control import ControlClient
from decentraspace.gateway.render import Headers, Mode, Page, Renderer
from decentraspace.gateway.usage import UsageCounter

SETTINGS_VARIABLE = "DECENTRASPACE_GATEWAY_SETTINGS"
_PIECE = 256 * 1024  # bytes sent at once
_MISSES_MOST = 10_000  # blocks asked for on behalf of one request
_UNKNOWN_FOR = 2.0  # seconds a host that the node does not know is not asked for again
_HOST = re.compile(r"[a-z0-9.-]{1,253}")
_ALLOWED = "GET, HEAD, OPTIONS"
T = TypeVar("T")


class Settings(NamedTuple):
    """What a worker is told by its node. `cache_bytes`: of prepared pages."""

    blocks: str
    socket: str
    domain: str
    open_relay: bool
    autoindex: bool
    cache_bytes: int
    fetch_timeout: float


class Target(NamedTuple):
    """What a request is for: `site` is a site id or empty; `path` decoded, below `root`."""

    site: str
    root: bytes
    path: str
    mode: Mode


class Gateway:
    """`__rsgi__` is the application Granian runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = BlockStore.open(Path(settings.blocks), readonly=True)
        self.renderer = Renderer(self.verified)
        self.control = ControlClient(settings.socket)
        self.usage = UsageCounter(self.control)
        self._suffix = "." + settings.domain
        self._cid_suffix = ".ipfs." + settings.domain
        self._pages: OrderedDict[tuple[bytes, str, str, Mode], Page] = OrderedDict()
        self._pages_size = 0
        self._entries: dict[bytes, siteindex.SiteEntry] = {}
        self._targets: dict[tuple[bytes, str], Target] = {}
        self._unknown: dict[str, float] = {}
        self._fetching: dict[bytes, asyncio.Future[bool]] = {}
        self._threads = ThreadPoolExecutor(4, "render")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._site_mode = Mode("", False, True, settings.autoindex)
        self._cid_mode = Mode("", True, True, settings.autoindex)
        self._hosts = self.store.db["hosts"]
        self._begin = self.store.env.begin

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tasks.add(loop.create_task(self.usage.run()))

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self.usage.flush())

    def verified(self, cid: bytes) -> bytes:
        """A block as its CID says; a damaged one counts as missing."""
        block = self.store.get(cid)
        if block is None or not cids.digest_matches(cid, block):
            raise BlockMissing(cid)
        return block

    # -- requests

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        headers = scope.headers
        method = scope.method
        if method not in ("GET", "HEAD"):
            self._refuse_method(method, protocol)
            return
        host = headers.get("host") or scope.authority or ""
        target = self._known_site(host, scope.path) or await self._target(host, scope, protocol)
        if target is None:
            return
        accept = headers.get("accept") or ""
        if scope.query_string or "vnd.ipld" in accept:
            try:
                request = trustless.wanted(scope.query_string, accept)
            except BadInput as error:
                self._error(protocol, target.site, 400, "Bad request", str(error))
                return
            if request is not None:
                await self._trustless(target, request, protocol, method)
                return
        encoding = negotiate.encoding_for(headers.get("accept-encoding") or "")
        page = self._pages.get((target.root, target.path, encoding, target.mode))
        if page is None:
            page = await self._render(target, encoding, protocol)
            if page is None:
                return
        tag = headers.get("if-none-match")
        if tag is not None and page.status == 200 and negotiate.etag_matches(tag, page.etag):
            kept = [
                h for h in page.headers if h[0] not in ("content-type", "content-encoding", "accept-ranges")
            ]
            self.usage.add(target.site, 304, 0)
            protocol.response_empty(304, kept)
            return
        if page.location:
            to = page.location
            if scope.query_string and "?" not in to:
                to += "?" + scope.query_string
            self.usage.add(target.site, page.status, 0)
            protocol.response_empty(page.status, [*page.headers, ("location", to), ("content-length", "0")])
            return
        asked = headers.get("range")
        ranged = asked is not None and page.status == 200 and self._whole(headers.get("if-range"), page)
        if ranged and await self._ranged(target, page, asked, protocol, method):
            return
        if method == "HEAD":
            self.usage.add(target.site, page.status, 0)
            protocol.response_empty(page.status, [*page.headers, ("content-length", str(page.size))])
        elif page.body is not None:
            self.usage.add(target.site, page.status, page.size)
            protocol.response_bytes(page.status, page.headers, page.body)
        else:
            await self._stream(target, page, protocol, 200, 0, page.size, page.headers)

    def _refuse_method(self, method: str, protocol: Any) -> None:
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

    def _known_site(self, host: str, path: str) -> Target | None:
        """The hot path: a site of the index, on its own host."""
        name = host.partition(":")[0]
        if not name.endswith(self._suffix):
            return None
        label = name[: -len(self._suffix)]
        if not label or len(label) > 63:
            return None
        with self._begin() as txn:
            raw = txn.get(label.encode("ascii", "replace"), db=self._hosts)
        if raw is None:
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
            if len(self._targets) > 50_000:
                self._targets.clear()
            target = Target(entry.site_id, entry.root, path, self._site_mode)
            self._targets[raw, path] = target
        return target

    async def _target(self, host: str, scope: Any, protocol: Any) -> Target | None:
        """Everything else: unknown hosts, paused sites, CIDs. None when it has been answered."""
        name = host.lower().rpartition(":")[0] if re.search(r":\d+$", host) else host.lower()
        name = name.rstrip(".")
        if name.endswith(self._cid_suffix):
            return self._by_cid(name[: -len(self._cid_suffix)], scope.path, protocol)
        if name.endswith(self._suffix):
            return await self._by_label(name[: -len(self._suffix)], scope.path, protocol)
        if scope.path.startswith("/ipfs/"):
            return self._by_path(name, host, scope, protocol)
        self._error(
            protocol,
            "",
            404,
            "No site here",
            f"This is a DecentraSpace gateway. Sites have hosts like LABEL--ID.{self.settings.domain}, "
            "content has paths like /ipfs/CID.",
        )
        return None

    async def _by_label(self, label: str, path: str, protocol: Any) -> Target | None:
        raw = self._index(label)
        if raw is None and _HOST.fullmatch(label) and await self._resolved(label):
            raw = self._index(label)
        if raw is None:
            self._error(
                protocol,
                "",
                404,
                "No such site",
                "No node that this one knows has published a site with this name.",
            )
            return None
        entry = siteindex.decode(raw)
        if entry.flags & siteindex.FLAG_BLOCKED:
            self._error(
                protocol,
                entry.site_id,
                451,
                "Not served here",
                "The operator of this node has blocked this site.",
            )
            return None
        if entry.flags & siteindex.FLAG_PAUSED:
            self._error(
                protocol, entry.site_id, 402, "Paused", "This site is paused until its owner adds credit."
            )
            return None
        return Target(entry.site_id, entry.root, path, self._site_mode)

    def _index(self, label: str) -> bytes | None:
        if not label or len(label) > 63 or not label.isascii():
            return None
        with self._begin() as txn:
            raw: bytes | None = txn.get(label.encode(), db=self._hosts)
            return raw

    def _by_cid(self, label: str, path: str, protocol: Any) -> Target | None:
        try:
            root = cids.parse(label)
        except BadInput as error:
            self._error(protocol, "", 400, "Not a CID", str(error))
            return None
        return Target("", root, path, self._cid_mode) if self._may_serve(root, protocol) else None

    def _by_path(self, name: str, host: str, scope: Any, protocol: Any) -> Target | None:
        text, slash, rest = scope.path[len("/ipfs/") :].partition("/")
        try:
            root = cids.parse(text)
        except BadInput as error:
            self._error(protocol, "", 400, "Not a CID", str(error))
            return None
        if not self._may_serve(root, protocol):
            return None
        plain = cids.to_text(root)
        accept = scope.headers.get("accept") or ""
        machine = "format=" in scope.query_string or "vnd.ipld" in accept
        if name == self.settings.domain and len(plain) <= 63 and not machine:
            # Browsers get the form in which every root has an origin of its own.
            to = f"{scope.scheme}://{plain}.ipfs.{host}/{quote(rest)}"
            query = "?" + scope.query_string if scope.query_string else ""
            self.usage.add("", 301, 0)
            protocol.response_empty(301, [("location", to + query), ("content-length", "0")])
            return None
        return Target("", root, slash + rest, Mode("/ipfs/" + plain, True, False, self.settings.autoindex))

    def _may_serve(self, root: bytes, protocol: Any) -> bool:
        if self.settings.open_relay or cids.identity_data(root) is not None or self.store.referenced(root):
            return True
        self._error(
            protocol,
            "",
            404,
            "Not served here",
            "This node serves what its sites consist of, and nothing else.",
        )
        return False

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

    # -- answers

    async def _render(self, target: Target, encoding: str, protocol: Any) -> Page | None:
        """A page, made once and kept. None when the request has been answered with an error."""
        try:
            page = await self._patiently(
                target, lambda: self.renderer.render(target.root, target.path, target.mode, encoding)
            )
        except TimeoutError:
            self._error(
                protocol, target.site, 504, "Not in time", "No node gave the content in time. Try again."
            )
            return None
        except DecentraSpaceError as error:
            self._error(protocol, target.site, 502, "Content is damaged", str(error))
            return None
        self._keep((target.root, target.path, encoding, target.mode), page)
        return page

    async def _patiently(self, target: Target, work: Callable[[], T]) -> T:
        """Run `work` in a thread; get the blocks it lacks from the node and run it again."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.settings.fetch_timeout):
            for _ in range(_MISSES_MOST):
                try:
                    return await loop.run_in_executor(self._threads, work)
                except BlockMissing as error:
                    if not await self._bring(error.cid, target.root):
                        raise TimeoutError from error
        raise TimeoutError

    async def _bring(self, cid: bytes, root: bytes) -> bool:
        """Ask the node for a block; requests for one block at one time ask once."""
        under_way = self._fetching.get(cid)
        if under_way is not None:
            return await asyncio.shield(under_way)
        future = self._fetching[cid] = asyncio.get_running_loop().create_future()
        try:
            there = await self.control.ask("fetch", self.settings.fetch_timeout, cid=cid, root=root)
        except BaseException:
            future.set_result(False)
            raise
        else:
            future.set_result(there)
            return there
        finally:
            del self._fetching[cid]

    def _keep(self, key: tuple[bytes, str, str, Mode], page: Page) -> None:
        cost = len(page.body or b"") + 1024 + len(key[1])
        if cost > self.settings.cache_bytes // 8 or page.status >= 500:
            return
        if key not in self._pages:
            self._pages_size += cost
        self._pages[key] = page
        while self._pages_size > self.settings.cache_bytes:
            old_key, old = self._pages.popitem(last=False)
            self._pages_size -= len(old.body or b"") + 1024 + len(old_key[1])

    def _whole(self, if_range: str | None, page: Page) -> bool:
        return if_range is None or if_range.strip() == page.etag

    async def _ranged(self, target: Target, page: Page, asked: str, protocol: Any, method: str) -> bool:
        """Answer a range request; False to answer with the whole."""
        if any(name == "content-encoding" for name, _ in page.headers):
            return False
        span = negotiate.single_range(asked, page.size)
        if span is None:
            return False
        if isinstance(span, bool):
            self.usage.add(target.site, 416, 0)
            headers = [("content-range", f"bytes */{page.size}"), ("content-length", "0")]
            protocol.response_empty(416, headers)
            return True
        start, end = span
        headers = [*page.headers, ("content-range", f"bytes {start}-{end - 1}/{page.size}")]
        if method == "HEAD":
            self.usage.add(target.site, 206, 0)
            protocol.response_empty(206, [*headers, ("content-length", str(end - start))])
        elif page.body is not None:
            self.usage.add(target.site, 206, end - start)
            protocol.response_bytes(206, headers, page.body[start:end])
        else:
            await self._stream(target, page, protocol, 206, start, end, headers)
        return True

    async def _stream(
        self, target: Target, page: Page, protocol: Any, status: int, start: int, end: int, headers: Headers
    ) -> None:
        pieces = self._restarting(target, start, end, page.stream)
        transport = protocol.response_stream(status, [*headers, ("content-length", str(end - start))])
        await self._send(target, transport, pieces, status)

    def _restarting(
        self, target: Target, start: int, end: int, cid: bytes
    ) -> Callable[[int], Iterator[bytes]]:
        return lambda done: reader.iter_file(self.verified, cid, start + done, end)

    async def _send(
        self, target: Target, transport: Any, pieces: Callable[[int], Iterator[bytes]], status: int
    ) -> None:
        """Send what `pieces(bytes already sent)` gives; a block that is missing midway is fetched, or the
        connection is broken off: the client must never take a part for the whole."""
        done = 0
        iterator = pieces(0)
        try:
            while True:
                try:
                    piece = next(iterator, None)
                except BlockMissing as error:
                    if not await self._bring(error.cid, target.root):
                        raise
                    iterator = pieces(done)
                    continue
                if piece is None:
                    return
                await transport.send_bytes(piece)
                done += len(piece)
        finally:
            self.usage.add(target.site, status, done)

    async def _trustless(
        self, target: Target, request: trustless.Request, protocol: Any, method: str
    ) -> None:
        segments = [part for part in target.path.split("/") if part]
        try:
            resolved = await self._patiently(
                target, lambda: reader.resolve(self.verified, target.root, segments)
            )
        except NotFound as error:
            self._error(protocol, target.site, 404, "Not found", str(error))
            return
        except (TimeoutError, DecentraSpaceError) as error:
            self._error(
                protocol, target.site, 504, "Not in time", str(error) or "No node gave the content in time."
            )
            return
        cid = resolved.stat.cid
        cache = (
            "public, max-age=29030400, immutable"
            if target.mode.immutable
            else "public, max-age=0, must-revalidate"
        )
        headers = [
            ("cache-control", cache),
            ("x-content-type-options", "nosniff"),
            ("access-control-allow-origin", "*"),
            ("x-ipfs-path", quote(f"/ipfs/{cids.to_text(target.root)}{target.path}".rstrip("/"))),
            ("x-ipfs-roots", cids.to_text(cid)),
        ]
        if request.form == "raw":
            body = await self._patiently(target, lambda: self.verified(cid))
            headers += [
                ("content-type", trustless.RAW_TYPE),
                ("etag", f'"{cids.to_text(cid)}.raw"'),
                ("content-disposition", f'attachment; filename="{cids.to_text(cid)}.bin"'),
            ]
            self.usage.add(target.site, 200, len(body) if method == "GET" else 0)
            if method == "HEAD":
                protocol.response_empty(200, [*headers, ("content-length", str(len(body)))])
            else:
                protocol.response_bytes(200, headers, body)
            return
        headers += [
            ("content-type", trustless.CAR_FULL_TYPE),
            ("etag", f'W/"{cids.to_text(cid)}.car.{request.scope}.{request.range}"'.replace(" ", "")),
            ("content-disposition", f'attachment; filename="{cids.to_text(cid)}.car"'),
            ("accept-ranges", "none"),
        ]
        if method == "HEAD":
            protocol.response_empty(200, headers)
            return
        await self._send(
            target, protocol.response_stream(200, headers), self._car_pieces(target, resolved, request), 200
        )

    def _car_pieces(
        self, target: Target, resolved: reader.Resolved, request: trustless.Request
    ) -> Callable[[int], Iterator[bytes]]:
        def pieces(skip: int) -> Iterator[bytes]:
            """The CAR from byte `skip` on: walking it again gives the same bytes again."""
            buffer = bytearray()
            try:
                for frame in trustless.car_stream(self.verified, target.root, resolved, request):
                    if skip >= len(frame):
                        skip -= len(frame)
                        continue
                    buffer += frame[skip:] if skip else frame
                    skip = 0
                    if len(buffer) >= _PIECE:
                        yield bytes(buffer)
                        buffer.clear()
            except BlockMissing:
                if buffer:
                    yield bytes(buffer)  # what was read before goes out before the gap is filled
                raise
            if buffer:
                yield bytes(buffer)

        return pieces

    def _error(self, protocol: Any, site: str, status: int, title: str, detail: str) -> None:
        body = pages.error(status, title, detail)
        self.usage.add(site, status, len(body))
        protocol.response_bytes(
            status, [("content-type", "text/html; charset=utf-8"), ("cache-control", "no-store")], body
        )


def create() -> Gateway:
    """What Granian calls in each worker process."""
    from decentraspace.gateway.process import die_with_parent

    die_with_parent()
    return Gateway(Settings(**json.loads(os.environ[SETTINGS_VARIABLE])))


__all__ = ["SETTINGS_VARIABLE", "Gateway", "Settings", "create"]
