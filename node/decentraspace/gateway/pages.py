"""The pages people see that are no site's own: listings and errors."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import islice
from urllib.parse import quote

from decentraspace import markup
from decentraspace.content import cid as cids
from decentraspace.content.reader import DirEntry

LISTED = 10_000  # entries; a directory may have millions
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#222;"
    "background:#fff}"
    "a{color:#0b57d0;text-decoration:none}a:hover{text-decoration:underline}code{font-size:.85em;color:#555;"
    "overflow-wrap:anywhere}td{padding:.15rem 1rem .15rem 0}td.n{text-align:right;color:#555}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}a{color:#8ab4f8}code,td.n{color:#aaa}}"
)


def _page(title: str, body: str) -> bytes:
    return markup.page(title, _STYLE, body)


def error(status: int, title: str, detail: str, path: str = "") -> bytes:
    """`path`: what was asked for, where that itself is at fault."""
    about = f'<p>invalid path "{escape(path)}"</p>' if path else ""
    return _page(
        f"{status} {title}",
        f"<h1>{escape(title)}</h1><p>{escape(detail)}</p>{about}<p><code>{status}</code></p>",
    )


def blocked(status: int, detail: str, contact: str, api: str) -> bytes:
    """Who decided, and how to object. `contact`: words, a URL or an email address; `api`: URL of the node's
    API; either may be empty."""
    title = "Not available for legal reasons" if status == 451 else "No longer served here"
    ways = [_reach(contact)] if contact else []
    if api:
        ways.append(f'<a href="{escape(api)}/moderation/">tell the operator</a>')
    way = f"<p>To object or to ask: {', or '.join(ways)}.</p>" if ways else ""
    return _page(
        f"{status} {title}",
        f"<h1>{escape(title)}</h1><p>{escape(detail)}</p>"
        "<p>This node's operator answers for what this node serves. Other nodes decide for themselves.</p>"
        f"{way}<p><code>{status}</code></p>",
    )


def _reach(contact: str) -> str:
    if contact.startswith(("https://", "http://")):
        return f'<a href="{escape(contact)}">{escape(contact)}</a>'
    if contact.count("@") == 1 and " " not in contact:
        return f'<a href="mailto:{escape(quote(contact, safe="@"))}">{escape(contact)}</a>'
    return escape(contact)


def listing(
    path: str,
    root: bytes,
    entries: Iterable[DirEntry],
    *,
    name: str = "",
    prefix: str = "",
    gateway: str = "",
) -> bytes:
    """A directory without an index file; at most `LISTED` of its entries. `path`: decoded, without a slash at
    the end; `name`, `prefix`, `gateway`: of how it was asked for (page.py)."""
    here = prefix + quote(path)
    shown = list(islice(entries, LISTED + 1))
    rows = [
        f'<tr><td><a href="{escape(here + "/" + quote(entry.name, safe=""))}">{escape(entry.name)}</a></td>'
        f"<td>{_by_hash(entry, name, prefix, gateway)}</td>"
        f'<td class="n">{_size(entry.tsize)}</td></tr>'
        for entry in sorted(shown[:LISTED], key=lambda e: e.name)
    ]
    if len(shown) > LISTED:
        rows.append(f"<tr><td>More than {LISTED} entries: the rest is not shown.</td><td></td><td></td></tr>")
    up = "" if not path else f'<tr><td><a href="{escape(here)}/..">..</a></td><td></td><td></td></tr>'
    body = (
        f"<h1>Index of</h1><p>{_crumbs(path, name, prefix, gateway)}</p><p><code>{cids.to_text(root)}</code></p>"
        f"<table>{up}{''.join(rows)}</table>"
    )
    return _page(f"Index of {name}{path or '/'}", body)


def _crumbs(path: str, name: str, prefix: str, gateway: str) -> str:
    """The way here, each part a link; a name's own host is its start."""
    if not name:
        return escape(path or "/")
    _, space, top = name.split("/", 2)
    own = not prefix and not gateway
    link = f"//{top}" if own else f"{gateway}{name}"
    crumbs = [f'/{space}/<a href="{escape(link + "/" if own else link)}">{escape(top)}</a>']
    for part in path.split("/")[1:]:
        link += "/" + quote(part, safe="")
        crumbs.append(f'<a href="{escape(link)}">{escape(part)}</a>')
    return "/".join(crumbs)


def _by_hash(entry: DirEntry, name: str, prefix: str, gateway: str) -> str:
    """An entry's own CID: a link where content is served by CID."""
    text = cids.to_text(entry.cid)
    if not name:
        return f'<code class="ipfs-hash">{text}</code>'
    if not prefix and not gateway:
        link, more = f"https://cid.ipfs.tech/#{text}", ' target="_blank" rel="noreferrer noopener"'
    else:
        link, more = f"{gateway}/ipfs/{text}?filename={quote(quote(entry.name, safe=''), safe='')}", ""
    return f'<a class="ipfs-hash" translate="no" href="{escape(link)}"{more}>{text}</a>'


def document(cid: bytes, text: str, links: Iterable[tuple[str, bytes]]) -> bytes:
    """A document to look at. `links`: (path within it, CID)."""
    rows = "".join(
        f'<tr><td>{escape(path or "/")}</td><td><a href="/ipfs/{cids.to_text(to)}"><code>{cids.to_text(to)}</code></a>'
        "</td></tr>"
        for path, to in links
    )
    title = cids.to_text(cid)
    return _page(
        title, f"<h1>Document</h1><p><code>{title}</code></p><table>{rows}</table><pre>{escape(text)}</pre>"
    )


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return ""
