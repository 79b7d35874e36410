"""From a root, a path and an encoding to an answer. Reads blocks, talks to nobody, always gives the same.

An answer with a body was verified against its CID; a large file is answered without one (`stream`), to be
sent leaf by leaf, and a block that is no UnixFS with its CID (`native`). BlockMissing asks the caller to get
the block and try again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from decentraspace.content import cid as cids
from decentraspace.content import reader
from decentraspace.content.reader import BlockMissing, GetBlock, Stat
from decentraspace.errors import BadInput, NotFound
from decentraspace.gateway import negotiate, pages, rules
from decentraspace.gateway.page import CORS, Headers, Mode, Page, about, error_page, redirect
from decentraspace.gateway.variants import Variants, compress

SMALL = 1024 * 1024  # bytes; larger files are streamed, uncompressed
PARTS = "parts"  # an encoding: none, and only parts of the file may be asked for
_COMPRESS_FROM = 256  # bytes; below, the header costs more than is saved
_RULE_FILE_MOST = rules.MAX_FILE + 1
_LISTING = 2  # version of the listing's looks, for its entity tag


class _Rules(NamedTuple):
    """`fault`: what is wrong with _redirects, of which then no rule is known."""

    redirects: tuple[rules.Redirect, ...] = ()
    headers: tuple[rules.HeaderRule, ...] = ()
    fault: str = ""


class _Asked(NamedTuple):
    """One question: `clean` is the path in its one form, of which `segments` are the parts."""

    root: bytes
    segments: list[str]
    clean: str
    mode: Mode
    encoding: str
    rules: _Rules


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
        except reader.Inside as error:
            return error_page(501, "Not a block", str(error), [("cache-control", "no-cache")])
        except BadInput as error:
            return error_page(500, "This site has a fault", str(error), [("cache-control", "no-cache")])

    def _render(self, root: bytes, path: str, mode: Mode, encoding: str) -> Page:
        segments = [part for part in path.split("/") if part]
        if any(part in (".", "..") or "\0" in part for part in segments):
            raise NotFound("Paths go down only")
        if len(segments) > reader.MAX_PATH:
            raise NotFound(f"A path has at most {reader.MAX_PATH} parts")
        clean = "/" + "/".join(segments) + ("/" if path.endswith("/") and segments else "")
        asked = _Asked(root, segments, clean, mode, encoding, self._rules(root) if mode.origin else _Rules())
        match = rules.find_redirect(asked.rules.redirects, clean)
        if match is not None and match.forced:
            return self._follow(asked, match)
        page = self._content(asked)
        if page is not None:
            return page
        if asked.rules.fault:
            raise BadInput(asked.rules.fault)
        if match is not None:
            return self._follow(asked, match)
        if mode.origin:
            own = self._file_at(root, ["404.html"])
            if own is not None:
                return self._file(asked, own, "404.html", 404)
        raise NotFound(f"There is no {clean} here")

    def _content(self, asked: _Asked) -> Page | None:
        """What the path names, or None where there is nothing."""
        segments = asked.segments
        try:
            stat, _, trail = reader.resolve(self._get, asked.root, segments)
        except NotFound:
            # A page may be asked for without its ending.
            if not asked.mode.origin or not segments or asked.clean.endswith("/"):
                return None
            name = segments[-1] + ".html"
            page = self._file_at(asked.root, [*segments[:-1], name])
            return self._file(asked, page, name) if page else None
        if stat.kind == "directory":
            return self._directory(asked, stat, trail)
        if stat.kind == "node":
            return Page(200, [], None, native=stat.cid, roots=trail)
        if segments and asked.clean.endswith("/"):
            return None  # a file is no folder: what it links to would be looked for in the wrong place
        return self._file(asked, stat, segments[-1] if segments else "", trail=trail)

    def _directory(self, asked: _Asked, stat: Stat, trail: tuple[bytes, ...]) -> Page | None:
        mode, clean = asked.mode, asked.clean
        index = self._file_at(stat.cid, ["index.html"])
        if not clean.endswith("/"):
            if index is None and not mode.autoindex:
                return None
            return redirect(301, mode.prefix + quote(clean) + "/", mode.cache)
        if index is not None:
            # What is asked for by CID is the folder; a site's page stays the same when others change.
            tag = cids.to_text(stat.cid if mode.name else index.cid)
            return self._file(asked, index, "index.html", trail=trail, tag=tag)
        if not mode.autoindex or rules.find_redirect(asked.rules.redirects, clean) is not None:
            return None
        path = "/" + "/".join(asked.segments) if asked.segments else ""
        entries = reader.list_directory(self._get, stat.cid)
        body = pages.listing(
            path, stat.cid, entries, name=mode.name, prefix=mode.prefix, gateway=mode.gateway
        )
        etag = f'"DirIndex-{_LISTING}_CID-{cids.to_text(stat.cid)}"'
        headers = _headers(asked, "text/html; charset=utf-8", etag, trail)
        if mode.name:
            headers = [(k, mode.cache_made_here if k == "cache-control" else v) for k, v in headers]
        return self._with_body(200, headers, body, f'"{path}{mode.key}{etag}"', etag, asked.encoding)

    def _file_at(self, root: bytes, path: list[str]) -> Stat | None:
        try:
            stat = reader.resolve(self._get, root, path).stat
        except NotFound:
            return None
        return stat if stat.kind == "file" else None

    def _file(
        self,
        asked: _Asked,
        stat: Stat,
        name: str,
        status: int = 200,
        *,
        trail: tuple[bytes, ...] = (),
        tag: str = "",
    ) -> Page:
        """`tag`: for the entity tag, where it is not the file's own CID."""
        own = f'"{cids.to_text(stat.cid)}"'
        etag = f'"{tag}"' if tag else own
        if stat.size > SMALL or (asked.encoding == PARTS and cids.codec(stat.cid) == cids.DAG_PB):
            return self._streamed(asked, stat, name, status, trail, etag)
        body = self._variants.get(own, lambda: b"".join(reader.iter_file(self._get, stat.cid)))
        kind = negotiate.content_type(name, body[:512])
        headers = [*_headers(asked, kind, etag, trail), ("accept-ranges", "bytes")]
        # By what is declared: a site's own rule may have named another type.
        if not negotiate.COMPRESSIBLE.fullmatch(dict(headers)["content-type"]):
            return Page(status, headers, body, etag, len(body))
        return self._with_body(status, headers, body, own, etag, asked.encoding)

    def _streamed(
        self, asked: _Asked, stat: Stat, name: str, status: int, trail: tuple[bytes, ...], etag: str
    ) -> Page:
        """Without a body: parts of the file may be had although others of it are not."""
        keep = True
        try:
            start = next(reader.iter_file(self._get, stat.cid, 0, 512), b"")
            kind = negotiate.content_type(name, start)
        except BlockMissing:
            if asked.encoding != PARTS:
                raise
            kind, keep = negotiate.content_type(name, b"\0"), False
        headers = [*_headers(asked, kind, etag, trail), ("accept-ranges", "bytes")]
        return Page(status, headers, None, etag, stat.size, stat.cid, keep=keep)

    def _with_body(
        self, status: int, headers: Headers, body: bytes, key: str, etag: str, encoding: str
    ) -> Page:
        """`key`: names these bytes among all there are."""
        if len(body) < _COMPRESS_FROM:
            return Page(status, headers, body, etag, len(body))
        headers = [*headers, ("vary", "Accept-Encoding")]
        if encoding in ("identity", PARTS):
            return Page(status, headers, body, etag, len(body))
        packed = self._variants.get(f"{key}.{encoding}", lambda: compress(body, encoding))
        if len(packed) >= len(body):
            return Page(status, headers, body, etag, len(body))
        etag = f'{etag[:-1]}.{encoding}"'
        headers = [(k, etag if k == "etag" else v) for k, v in headers if k != "accept-ranges"]
        return Page(status, [*headers, ("content-encoding", encoding)], packed, etag, len(packed))

    def _follow(self, asked: _Asked, match: rules.Match) -> Page:
        if match.status in rules.REDIRECT_STATUS:
            return redirect(match.status, match.to, asked.mode.cache)
        segments = [part for part in match.to.split("/") if part]
        stat = self._file_at(asked.root, segments) or self._file_at(asked.root, [*segments, "index.html"])
        if stat is None:
            raise NotFound(f"_redirects leads to {match.to}, which is not there")
        name = segments[-1] if segments and "." in segments[-1] else "index.html"
        return self._file(asked._replace(clean=match.to), stat, name, match.status)

    def _load_rules(self, root: bytes) -> _Rules:
        def load(name: str) -> bytes:
            stat = self._file_at(root, [name])
            if stat is None:
                return b""
            return b"".join(reader.iter_file(self._get, stat.cid, 0, _RULE_FILE_MOST))

        headers = rules.parse_headers(load("_headers"))
        try:
            return _Rules(rules.parse_redirects(load("_redirects")), headers)
        except BadInput as error:
            return _Rules((), headers, f"could not parse _redirects: {error}")


def _headers(asked: _Asked, kind: str, etag: str, trail: tuple[bytes, ...]) -> Headers:
    mode = asked.mode
    own = {
        "content-type": kind,
        "etag": etag,
        "cache-control": mode.cache,
        "x-content-type-options": "nosniff",
    }
    if mode.name:
        own.update(CORS)
        if trail:
            own.update(about(mode, asked.clean, trail))
    own.update(rules.headers_for(asked.rules.headers, asked.clean))
    if not mode.origin:
        # Content of many owners shares this origin: give it one of its own, without scripts' rights here.
        own["content-security-policy"] = "sandbox"
    return list(own.items())
