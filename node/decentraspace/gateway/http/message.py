"""The parts of a request: its fields and its target."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

# As clients and servers in front write them. What is not here costs a little more.
_USUAL = """
Accept Accept-Encoding Accept-Language Cache-Control Connection Content-Length Content-Type Cookie DNT Expect Host
If-Modified-Since If-None-Match If-Range Origin Pragma Priority Range Referer Sec-CH-UA Sec-CH-UA-Mobile
Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User TE Transfer-Encoding Upgrade
Upgrade-Insecure-Requests User-Agent Via X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Real-IP
"""
NAMES = {form.encode(): name.lower() for name in _USUAL.split() for form in (name, name.lower())}


class Refused(Exception):
    """What arrived is no request that is taken; its connection ends with the answer."""

    def __init__(self, status: int) -> None:
        self.status = status


class Headers(dict[str, str]):
    """Fields by their name in lower case; of several alike the first. Text is Latin-1."""

    __slots__ = ("_more",)  # set with the first that comes again, so that most need no time for it
    _more: dict[str, list[str]]

    def again(self, name: str, value: str) -> None:
        """One more of a name that is there."""
        if not hasattr(self, "_more"):
            self._more = {}
        self._more.setdefault(name, []).append(value)

    def get_all(self, name: str) -> list[str]:
        if name not in self:
            return []
        return [self[name], *(self._more.get(name, ()) if hasattr(self, "_more") else ())]


class Target(NamedTuple):
    """`authority`: the host, where the target itself names one; `path` is decoded, the query is not."""

    authority: str | None
    path: str
    query: str


def parse_target(raw: bytes, method: str) -> Target:
    """Source: RFC 9112 section 3.2. Refused."""
    authority = None
    if not raw.startswith(b"/"):
        if raw == b"*":
            return Target(None, "*", "")
        if method == "CONNECT":
            return Target(None, "", "")
        scheme, mark, rest = raw.partition(b"://")
        if not mark or scheme.lower() not in (b"http", b"https"):
            raise Refused(400)
        end = min((found for found in (rest.find(b"/"), rest.find(b"?")) if found >= 0), default=len(rest))
        authority, raw = rest[:end].decode("latin-1"), rest[end:]
        if not authority or "@" in authority:
            raise Refused(400)
        if not raw.startswith(b"/"):
            raw = b"/" + raw
    if b"#" in raw:
        raise Refused(400)  # a fragment is never sent; what is behind it, servers read differently
    path, _, query = raw.partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path)
    try:
        return Target(authority, path.decode(), query.decode("latin-1"))
    except UnicodeDecodeError as error:
        raise Refused(400) from error
