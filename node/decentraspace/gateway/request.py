"""What a worker is told by its node, what a request turns out to be for, and how one is refused."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.gateway.page import NOSNIFF, Mode, Page, error_page

PATH_MOST = 8192  # characters, decoded
LABEL_MOST = 63  # characters of a part of a host name; RFC 1035 section 2.3.4
_HOST = re.compile(r"([A-Za-z0-9._-]{1,254}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")


class Settings(NamedTuple):
    """What a worker is told by its node. `cache_bytes`: of prepared pages; `contact`, `api`: how visitors reach
    the operator, empty where they cannot; `name_timeout`: seconds that the node is waited for when it looks up
    a name; `resolvers`: top-level domains whose names have hosts below the gateway's own; `plain_hosts`: the one whose
    names have them without it, or ""."""

    blocks: str
    socket: str
    domain: str
    open_relay: bool
    autoindex: bool
    cache_bytes: int
    fetch_timeout: float
    contact: str = ""
    api: str = ""
    public_url: str = ""
    name_timeout: float = 6.0
    resolvers: tuple[str, ...] | list[str] = ()
    plain_hosts: str = ""


class Target(NamedTuple):
    """What a request is for: `site` is a site id or empty; `path` decoded, below `root`; `old`: the root was
    written as a CID of version 0."""

    site: str
    root: bytes
    path: str
    mode: Mode
    old: bool = False


class Answered(Exception):
    """A request is answered with `page`, whatever it was for. `site`: whose usage it is."""

    def __init__(self, page: Page, site: str = "") -> None:
        self.page, self.site = page, site


def refusal(status: int, title: str, detail: str, site: str = "", *, path: str = "") -> Answered:
    return Answered(error_page(status, title, detail, [("cache-control", "no-store")], path), site)


def moved(status: int, to: str, cache: str) -> Answered:
    """To a place that depends on what a server in front says of the request; other forms stay where they are."""
    headers = [("cache-control", cache), NOSNIFF, ("vary", "Accept, X-Forwarded-Host, X-Forwarded-Proto")]
    return Answered(Page(status, headers, b"", location=to))


def host_of(headers: Any, version: str) -> str:
    """RFC 9112 section 3.2: exactly one Host, but for clients that are older than that."""
    hosts = headers.get_all("host")
    if len(hosts) == 1:
        return str(hosts[0])
    if not hosts and version in ("1", "1.0"):
        return ""
    raise refusal(400, "Bad request", "A request has exactly one Host.")


def host_name(host: str) -> str | None:
    """The name of a host without its port, in lower case; None where it is malformed."""
    if not host:
        return ""
    found = _HOST.fullmatch(host)
    return found[1].lower().rstrip(".") if found else None


def parse_cid(text: str, path: str) -> bytes:
    """`path`: what is to be named in the answer when it is none."""
    try:
        return cids.parse(text)
    except BadInput as error:
        raise refusal(400, "Not a CID", str(error), path=path[:200]) from error
