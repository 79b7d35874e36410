"""What a prepared answer consists of, and how its content was asked for."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from decentraspace.content import cid as cids
from decentraspace.gateway import pages

IMMUTABLE = "public, max-age=29030400, immutable"
MUTABLE = "public, max-age=0, must-revalidate"
_MADE_HERE = (
    "public, max-age=604800, stale-while-revalidate=2678400"  # pages about content that never changes
)

Headers = list[tuple[str, str]]

# Of every answer, also of those without a body, so that nobody has to know which those are.
NOSNIFF = ("x-content-type-options", "nosniff")

# Content by CID is open to scripts of all origins, and these headers of it too.
# Source: https://specs.ipfs.tech/http-gateways/path-gateway/#cors-headers
CORS: Headers = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
    (
        "access-control-allow-headers",
        "Accept, Content-Type, If-None-Match, Range, User-Agent, X-Requested-With",
    ),
    (
        "access-control-expose-headers",
        "Content-Length, Content-Range, ETag, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, X-Stream-Output",
    ),
]


class Page(NamedTuple):
    """`headers` are complete but for Content-Length. `stream`: CID of the file to send when body is None.
    `native`: of a page that stands for a block which is no UnixFS, its CID. `keep`: whether it is worth it."""

    status: int
    headers: Headers
    body: bytes | None
    etag: str = ""
    size: int = 0
    stream: bytes = b""
    location: str = ""
    native: bytes = b""
    roots: tuple[bytes, ...] = ()
    keep: bool = True


class Mode(NamedTuple):
    """How content is asked for.

    `key` names all the others; `name`: /ipfs/CID or /ipns/NAME, empty for sites; `prefix`: before its paths
    in links (`name`, or empty on a host of its own); `cache`: Cache-Control; `immutable`: it is of a CID;
    `origin`: it has an origin of its own, so its rule files count and its scripts may run; `gateway`: where
    links to other content lead, as `//HOST`, empty for this host.
    """

    key: str
    name: str
    prefix: str
    cache: str
    immutable: bool
    origin: bool
    autoindex: bool
    gateway: str = ""

    @property
    def cache_made_here(self) -> str:
        """Cache-Control of a page that the gateway makes about content, and may make differently one day."""
        return _MADE_HERE if self.immutable else self.cache


def site_mode(autoindex: bool) -> Mode:
    return Mode("site", "", "", MUTABLE, False, True, autoindex)


def content_mode(
    name: str, *, own_host: bool, autoindex: bool, gateway: str = "", cache: str = IMMUTABLE
) -> Mode:
    """Of content by CID or name; `own_host`: the host stands for it, so that it has an origin of its own."""
    key = f"{name} {own_host} {gateway} {cache}"
    return Mode(key, name, "" if own_host else name, cache, cache == IMMUTABLE, own_host, autoindex, gateway)


def about(mode: Mode, path: str, roots: tuple[bytes, ...]) -> Headers:
    """What clients of IPFS are told of content: `path` as asked, and `roots`, the CIDs of its segments from the
    root on."""
    return [
        ("x-ipfs-path", quote((mode.name or f"/ipfs/{cids.to_text(roots[0])}") + path)),
        ("x-ipfs-roots", ",".join(cids.to_text(cid) for cid in roots)),
    ]


def redirect(status: int, to: str, cache: str) -> Page:
    return Page(status, [("cache-control", cache), NOSNIFF], b"", location=to)


def error_page(status: int, title: str, detail: str, headers: Headers, path: str = "") -> Page:
    """A page of the gateway's own. `path`: what was asked for, where that itself is at fault."""
    body = pages.error(status, title, detail, path)
    plain = [("content-type", "text/html; charset=utf-8"), NOSNIFF]
    return Page(status, [*plain, *headers], body, "", len(body))
