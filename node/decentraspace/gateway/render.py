"""From a root, a path and an encoding to an answer. Reads blocks, talks to nobody, always gives the same.

An answer with a body was verified against its CID; a large file is answered without one (`stream`), to be
sent leaf by leaf. BlockMissing asks the caller to get the block and try again.
"""

from __future__ import annotations

import gzip
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

import brotli
import zstandard

from decentraspace.content import cid as cids
from decentraspace.content import reader
from decentraspace.content.reader import GetBlock, Stat
from decentraspace.errors import BadInput, NotFound
from decentraspace.gateway import negotiate, pages, rules

SMALL = 1024 * 1024  # bytes; larger files are streamed, uncompressed
_COMPRESS_FROM = 256  # bytes; below, the header costs more than is saved
_RULE_FILE_MOST = rules.MAX_FILE + 1

Headers = list[tuple[str, str]]


class Page(NamedTuple):
    """`headers` are complete but for Content-Length. `stream`: CID of the file to send when body is None."""

    status: int
    headers: Headers
    body: bytes | None
    etag: str = ""
    size: int = 0
    stream: bytes = b""
    location: str = ""


class Mode(NamedTuple):
    """How content is asked for: `prefix` before its paths (`/ipfs/CID` or empty); `immutable`: by CID;
    `origin`: it has an origin of its own, so its rule files count and its scripts may run."""

    prefix: str
    immutable: bool
    origin: bool
    autoindex: bool


class _Rules(NamedTuple):
    redirects: tuple[rules.Redirect, ...]
    headers: tuple[rules.HeaderRule, ...]


IMMUTABLE = "public, max-age=29030400, immutable"
MUTABLE = "public, max-age=0, must-revalidate"
_NO_RULES = _Rules((), ())


class Variants:
    """Bodies by entity tag: a body compressed once serves every path it is found under, such as all those
    of a single-page application. Thread-safe. `most`: bytes kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, etag: str, make: Callable[[], bytes]) -> bytes:
        with self._lock:
            if (found := self._kept.get(etag)) is not None:
                self._kept.move_to_end(etag)
                return found
        made = make()
        with self._lock:
            if etag not in self._kept and len(made) <= self._most // 8:
                self._kept[etag] = made
                self._size += len(made)
                while self._size > self._most:
                    self._size -= len(self._kept.popitem(last=False)[1])
            return self._kept.get(etag, made)


class Renderer:
    """Bound to a way of reading blocks (which verifies). One per worker."""

    def __init__(self, get: GetBlock, variants_bytes: int) -> None:
        self._get = get
        self._variants = Variants(variants_bytes)
        self._rules: Callable[[bytes], _Rules] = lru_cache(maxsize=512)(self._load_rules)

    def render(self, root: bytes, path: str, mode: Mode, encoding: str) -> Page:
        """The answer for `path` (decoded, starts with /) below `root`."""
        try:
            return self._render(root, path, mode, encoding)
        except NotFound as error:
            cache = "public, max-age=60" if mode.immutable else "no-cache"
            return error_page(404, "Not found", str(error), [("cache-control", cache)])
        except BadInput as error:
            return error_page(500, "This site has a fault", str(error), [("cache-control", "no-cache")])

    def _render(self, root: bytes, path: str, mode: Mode, encoding: str) -> Page:
        segments = [part for part in path.split("/") if part]
        if any(part in (".", "..") or "\0" in part for part in segments):
            raise NotFound("Paths go down only")
        if len(segments) > reader.MAX_PATH:
            raise NotFound(f"A path has at most {reader.MAX_PATH} parts")
        clean = "/" + "/".join(segments) + ("/" if path.endswith("/") and segments else "")
        found = self._rules(root) if mode.origin else _NO_RULES
        match = rules.find_redirect(found.redirects, clean)
        if match is not None and match.forced:
            return self._follow(root, match, mode, encoding, found)
        page = self._content(root, segments, clean, mode, encoding, found)
        if page is not None:
            return page
        if match is not None:
            return self._follow(root, match, mode, encoding, found)
        if mode.origin:
            own = self._file_at(root, ["404.html"])
            if own is not None:
                return self._file(own, "404.html", clean, mode, encoding, found, 404)
        raise NotFound(f"There is no {clean} here")

    def _content(
        self, root: bytes, segments: list[str], clean: str, mode: Mode, encoding: str, found: _Rules
    ) -> Page | None:
        """What the path names, or None where there is nothing."""
        try:
            stat = reader.resolve(self._get, root, segments).stat
        except NotFound:
            # A page may be asked for without its ending.
            if not mode.origin or not segments or clean.endswith("/"):
                return None
            name = segments[-1] + ".html"
            page = self._file_at(root, [*segments[:-1], name])
            return self._file(page, name, clean, mode, encoding, found) if page else None
        if stat.kind == "directory":
            return self._directory(root, stat, segments, clean, mode, encoding, found)
        if stat.kind == "node":
            return self._node(stat, mode)
        if segments and clean.endswith("/"):
            return None  # a file is no folder: what it links to would be looked for in the wrong place
        return self._file(stat, segments[-1] if segments else "", clean, mode, encoding, found)

    def _directory(
        self,
        root: bytes,
        stat: Stat,
        segments: list[str],
        clean: str,
        mode: Mode,
        encoding: str,
        found: _Rules,
    ) -> Page | None:
        index = self._file_at(stat.cid, ["index.html"])
        if not clean.endswith("/"):
            if index is None and not mode.autoindex:
                return None
            return _redirect(301, mode.prefix + quote(clean) + "/", mode)
        if index is not None:
            return self._file(index, "index.html", clean, mode, encoding, found)
        if not mode.autoindex or rules.find_redirect(found.redirects, clean) is not None:
            return None
        path = "/" + "/".join(segments)
        body = pages.listing(path, stat.cid, reader.list_directory(self._get, stat.cid))
        etag = f'"DirIndex-{cids.to_text(stat.cid)}"'
        headers = _headers("text/html; charset=utf-8", etag, mode, found, clean)
        return self._with_body(200, headers, body, f'"{path}{etag}"', etag, encoding)

    def _file_at(self, root: bytes, path: list[str]) -> Stat | None:
        try:
            stat = reader.resolve(self._get, root, path).stat
        except NotFound:
            return None
        return stat if stat.kind == "file" else None

    def _file(
        self,
        stat: Stat,
        name: str,
        clean: str,
        mode: Mode,
        encoding: str,
        found: _Rules,
        status: int = 200,
    ) -> Page:
        etag = f'"{cids.to_text(stat.cid)}"'
        if stat.size > SMALL:
            start = next(reader.iter_file(self._get, stat.cid, 0, 512), b"")
            headers = _headers(negotiate.content_type(name, start), etag, mode, found, clean)
            return Page(status, [*headers, ("accept-ranges", "bytes")], None, etag, stat.size, stat.cid)
        body = self._variants.get(etag, lambda: b"".join(reader.iter_file(self._get, stat.cid)))
        kind = negotiate.content_type(name, body[:512])
        headers = [*_headers(kind, etag, mode, found, clean), ("accept-ranges", "bytes")]
        # By what is declared: a site's own rule may have named another type.
        if not negotiate.COMPRESSIBLE.fullmatch(dict(headers)["content-type"]):
            return Page(status, headers, body, etag, len(body))
        return self._with_body(status, headers, body, etag, etag, encoding)

    def _with_body(
        self, status: int, headers: Headers, body: bytes, key: str, etag: str, encoding: str
    ) -> Page:
        """`key`: names these bytes among all there are."""
        if len(body) < _COMPRESS_FROM:
            return Page(status, headers, body, etag, len(body))
        headers = [*headers, ("vary", "Accept-Encoding")]
        if encoding == "identity":
            return Page(status, headers, body, etag, len(body))
        packed = self._variants.get(f"{key}.{encoding}", lambda: _compress(body, encoding))
        if len(packed) >= len(body):
            return Page(status, headers, body, etag, len(body))
        etag = f'{etag[:-1]}.{encoding}"'
        headers = [(k, etag if k == "etag" else v) for k, v in headers if k != "accept-ranges"]
        return Page(status, [*headers, ("content-encoding", encoding)], packed, etag, len(packed))

    def _node(self, stat: Stat, mode: Mode) -> Page:
        body = self._get(stat.cid)
        codec = cids.codec(stat.cid)
        kind = {
            cids.DAG_CBOR: "application/vnd.ipld.dag-cbor",
            cids.DAG_JSON: "application/vnd.ipld.dag-json",
        }
        etag = f'"{cids.to_text(stat.cid)}"'
        headers = _headers(kind.get(codec, "application/vnd.ipld.raw"), etag, mode, _NO_RULES, "")
        return Page(200, [*headers, ("content-disposition", "attachment")], body, etag, len(body))

    def _follow(self, root: bytes, match: rules.Match, mode: Mode, encoding: str, found: _Rules) -> Page:
        if match.status in rules.REDIRECT_STATUS:
            return _redirect(match.status, match.to, mode)
        segments = [part for part in match.to.split("/") if part]
        stat = self._file_at(root, segments) or self._file_at(root, [*segments, "index.html"])
        if stat is None:
            raise NotFound(f"_redirects leads to {match.to}, which is not there")
        name = segments[-1] if segments and "." in segments[-1] else "index.html"
        return self._file(stat, name, match.to, mode, encoding, found, match.status)

    def _load_rules(self, root: bytes) -> _Rules:
        def load(name: str) -> bytes:
            stat = self._file_at(root, [name])
            if stat is None:
                return b""
            return b"".join(reader.iter_file(self._get, stat.cid, 0, _RULE_FILE_MOST))

        return _Rules(rules.parse_redirects(load("_redirects")), rules.parse_headers(load("_headers")))


def _headers(kind: str, etag: str, mode: Mode, found: _Rules, path: str) -> Headers:
    own = {
        "content-type": kind,
        "etag": etag,
        "cache-control": IMMUTABLE if mode.immutable else MUTABLE,
        "x-content-type-options": "nosniff",
    }
    own.update(rules.headers_for(found.headers, path))
    if not mode.origin:
        # Content of many owners shares this origin: give it one of its own, without scripts' rights here.
        own["content-security-policy"] = "sandbox"
        own["access-control-allow-origin"] = "*"
    return list(own.items())


def _compress(body: bytes, encoding: str) -> bytes:
    if encoding == "br":
        return bytes(brotli.compress(body, quality=6))
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=9).compress(body)
    return gzip.compress(body, 6, mtime=0)


def _redirect(status: int, to: str, mode: Mode) -> Page:
    cache = IMMUTABLE if mode.immutable else MUTABLE
    return Page(status, [("cache-control", cache)], b"", location=to)


def error_page(status: int, title: str, detail: str, headers: Headers) -> Page:
    """A page of the gateway's own."""
    body = pages.error(status, title, detail)
    plain = [("content-type", "text/html; charset=utf-8"), ("x-content-type-options", "nosniff")]
    return Page(status, [*plain, *headers], body, "", len(body))
