"""Who is asked for: from a host and a path to content, or an answer that needs none."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from decentraspace.content import cid as cids
from decentraspace.content import siteindex
from decentraspace.content.blockstore import BlockStore
from decentraspace.gateway import formats, negotiate
from decentraspace.gateway.links import Known
from decentraspace.gateway.names import Found, Names
from decentraspace.gateway.page import Mode, content_mode, site_mode
from decentraspace.gateway.refusals import Refusals
from decentraspace.gateway.request import (
    LABEL_MOST,
    PATH_MOST,
    Settings,
    Target,
    host_name,
    moved,
    parse_cid,
    refusal,
)
from decentraspace.names.links import SITE, below, outlined

# Of each worker. What was asked for long ago goes: of every version there was, and of paths that lead nowhere.
_ENTRIES_MOST, _TARGETS_MOST = 1024, 2048
_LABEL = re.compile(r"[a-z0-9.-]{1,253}")
_NO_CONTENT = cids.parse("bafkqaaa")  # the empty block: what clients ask a gateway for to see if it is one
_AWAY = "public, max-age=3600"  # for redirects to where content has an origin of its own
_IN_PATH = "/!$&'()*+,;=:@"  # RFC 3986 section 3.3
_URI = re.compile(r"(ipfs|ipns)://([^/?#]+)([^?#]*)(.*)")


class Router:
    """`known_site` answers for most requests; `find` for all others."""

    def __init__(
        self,
        settings: Settings,
        store: BlockStore,
        known: Known,
        names: Names,
        refusals: Refusals,
    ) -> None:
        self.settings, self._store, self._resolved = settings, store, known.resolved
        self._names, self._refusals = names, refusals
        self._linked = names.links.site
        self._domains = frozenset(settings.resolvers)
        self._suffix = "." + settings.domain
        self._public = (urlsplit(settings.public_url).hostname or "").rstrip(".")
        api = (urlsplit(settings.api).hostname or "").rstrip(".")
        self._own = {host.removesuffix(self._suffix) for host in (self._public, api)}
        self._site_mode = site_mode(settings.autoindex)
        self._entries: OrderedDict[bytes, siteindex.SiteEntry] = OrderedDict()
        self._targets: OrderedDict[tuple[bytes, str], Target] = OrderedDict()
        self._hosts = store.db["hosts"]
        self._begin = store.env.begin

    def forget(self) -> None:
        """The rules of what is refused have changed."""
        self._targets.clear()

    def known_site(self, host: str, path: str) -> Target | None:
        """The hot path: a site of the index, on its own host or under a name that is known to show it."""
        name, _, port = host.partition(":")
        if port and not port.isdigit():
            return None
        shown = path
        if name.endswith(self._suffix):
            label = name[: -len(self._suffix)]
        else:
            label = self._linked(name)
            shown = f"{name}\0{path}"  # under another name other rules may refuse it
        if not label or len(label) > siteindex.MAX_LABEL or not path.startswith("/"):
            return None
        with self._begin() as txn:
            raw = txn.get(label.encode("ascii", "replace"), db=self._hosts)
        if raw is None or len(path) > PATH_MOST:
            return None
        target = self._targets.get((raw, shown))
        if target is None:
            entry = self._entries.get(raw)
            if entry is None:
                entry = siteindex.decode(raw)
                if len(self._entries) >= _ENTRIES_MOST:
                    self._entries.popitem(last=False)
                self._entries[raw] = entry
            if entry.flags:
                return None
            self._refusals.check_site(entry, name, path)
            target = Target(entry.site_id, entry.root, path, self._site_mode)
            if len(path) <= 256:  # longer ones would let strangers fill the memory
                if len(self._targets) >= _TARGETS_MOST:
                    self._targets.popitem(last=False)
                self._targets[raw, shown] = target
        return target

    async def find(self, host: str, path: str, scope: Any) -> Target:
        """Everything else: unknown hosts, paused sites, CIDs, names, and what is wrong."""
        name = host_name(host)
        if name is None or not path.startswith("/"):
            raise refusal(400, "Bad request", "The request does not say properly what it is for.")
        if len(path) > PATH_MOST:
            raise refusal(414, "Too long", f"A path has at most {PATH_MOST} characters.")
        # Before that header: else who sends it could have a cache in front keep another's content under a linked name.
        if self._may_be_linked(name) and (leads := await self._names.leads(name)) is not None:
            return await self._by_link(name, leads, path, scope)
        if not self._is_ours(name):
            # A server in front may ask under a name of its own.
            before = scope.headers.get("x-forwarded-host") or ""
            before_name = host_name(before)
            if before_name and self._is_ours(before_name):
                host, name = before, before_name
        if name.endswith(self._suffix):
            label = name[: -len(self._suffix)]
            content, dot, space = label.rpartition(".")
            if dot and space == "ipfs":
                return await self._by_cid(content, host, path, scope)
            if dot and space == "ipns":
                return await self._by_name(content, host, path, scope)
            if (other := self._named_below(label)) is not None:
                return await self._by_link(other, await self._names.leads(other), path, scope)
            return await self._by_label(label, path)
        if path.startswith("/ipfs/"):
            return await self._by_path(name, host, path, scope)
        if path.startswith("/ipns/"):
            return await self._by_name_path(name, host, path, scope)
        raise refusal(
            404,
            "No site here",
            f"This is a DecentraSpace gateway. Sites have hosts like LABEL--ID.{self.settings.domain}, "
            "content has paths like /ipfs/CID.",
        )

    def _is_ours(self, name: str) -> bool:
        return name == self.settings.domain or name.endswith(self._suffix)

    # -- sites

    async def _by_label(self, label: str, path: str) -> Target:
        raw = self._index(label)
        if raw is None and _LABEL.fullmatch(label) and await self._resolved(label):
            raw = self._index(label)
        if raw is None:
            raise refusal(
                404, "No such site", "No node that this one knows has published a site with this name."
            )
        entry = siteindex.decode(raw)
        self._refusals.check_shown(entry)
        self._refusals.check_site(entry, label + self._suffix, path)
        return Target(entry.site_id, entry.root, path, self._site_mode)

    def _index(self, label: str) -> bytes | None:
        if not label or len(label) > siteindex.MAX_LABEL or not label.isascii():
            return None
        with self._begin() as txn:
            raw: bytes | None = txn.get(label.encode(), db=self._hosts)
            return raw

    # -- content

    async def _by_cid(self, label: str, host: str, path: str, scope: Any) -> Target:
        root = parse_cid(label, label)
        _check_label(label)
        self._refusals.check_content(root, path)
        self._refusals.check_paid(root, scope)
        await self._check_served(root, scope.headers)
        mode = self._mode("/ipfs/" + cids.to_text(root), own_host=True, gateway=_parent(host, ".ipfs."))
        return Target("", root, path, mode)

    async def _by_path(self, name: str, host: str, path: str, scope: Any) -> Target:
        text, slash, rest = path[len("/ipfs/") :].partition("/")
        if not text:
            _follow_uri(scope)
        root = parse_cid(text, "/ipfs/" + text)
        self._refusals.check_content(root, rest)
        self._refusals.check_paid(root, scope)
        await self._check_served(root, scope.headers)
        plain = cids.to_text(root)
        if name == self.settings.domain and not formats.for_machines(scope):
            # Browsers get the form in which every root has an origin of its own.
            _check_label(plain)
            raise self._to(f"{plain}.ipfs.{host}", rest, scope)
        mode = self._mode("/ipfs/" + plain, own_host=False)
        return Target("", root, slash + rest, mode, old=text.startswith("Qm"))

    # -- names

    async def _by_name(self, label: str, host: str, path: str, scope: Any) -> Target:
        """On a host of its own, `label`: a key, or a DNS name as it is or in one label."""
        key = self._names.key_of(label)
        if key is not None and self._names.text_of(key) != label:
            raise self._to(f"{self._names.text_of(key)}.ipns.{_parent(host, '.ipns.')[2:]}", path[1:], scope)
        name = label if key is not None or "." in label else outlined(label)
        found = await self._named(name, path[1:], scope)
        gateway = _parent(host, ".ipns.")
        mode = self._mode("/ipns/" + name, own_host=True, gateway=gateway, cache=found.cache)
        return Target(found.site, found.root, path, mode)

    async def _by_name_path(self, name: str, host: str, path: str, scope: Any) -> Target:
        text, slash, rest = path[len("/ipns/") :].partition("/")
        if not text:
            _follow_uri(scope)
        key = self._names.key_of(text)
        plain = self._names.text_of(key) if key is not None else text.lower().rstrip(".")
        if name == self.settings.domain and not formats.for_machines(scope):
            label = plain if key is not None else formats.inlined(plain)
            _check_label(label)
            raise self._to(f"{label}.ipns.{host}", rest, scope)
        if key is not None and plain != text and not formats.for_machines(scope):
            to = negotiate.with_query(f"/ipns/{plain}{slash}{quote(rest, safe=_IN_PATH)}", scope.query_string)
            raise moved(302, to, _AWAY)
        found = await self._named(plain, rest, scope)
        mode = self._mode("/ipns/" + plain, own_host=False, cache=found.cache)
        return Target(found.site, found.root, slash + rest, mode)

    def _may_be_linked(self, name: str) -> bool:
        """A host that is not this gateway's, and not an address."""
        if not name or self._is_ours(name) or name == self._public:
            return False
        return not name.startswith("[") and not name.rpartition(".")[2].isdigit()

    def _named_below(self, label: str) -> str | None:
        """The name of another system that a host below the gateway's stands for: `name.eth`, or in one label, as a
        certificate for all of them has it, `name-eth`. Where top-level names are themselves had, as with Handshake,
        the domain alone is one, too; no site's label looks like it."""
        found = below(label, self._domains, self.settings.plain_hosts)
        return None if label in self._own else found

    async def _by_link(self, name: str, leads: str | None, path: str, scope: Any) -> Target:
        """On the very host that the name is, or stands for it."""
        if leads is not None and leads.startswith(SITE):
            self._refusals.check_name(name, path)
            return await self._by_label(leads[len(SITE) :], path)
        found = await self._named(name, path[1:], scope)
        return Target(
            found.site, found.root, path, self._mode("/ipns/" + name, own_host=True, cache=found.cache)
        )

    async def _named(self, name: str, path: str, scope: Any) -> Found:
        self._refusals.check_name(name, path)
        found = await self._names.resolve(name)
        self._refusals.check_content(found.root, path)
        self._refusals.check_paid(found.root, scope)
        await self._check_served(found.root, scope.headers)
        return found

    # -- both

    def _mode(self, name: str, **how: Any) -> Mode:
        return content_mode(name, autoindex=self.settings.autoindex, **how)

    def _to(self, host: str, path: str, scope: Any) -> Exception:
        """301 to a host, by the scheme that the server in front was asked with."""
        scheme = scope.headers.get("x-forwarded-proto") or ""
        if scheme not in ("http", "https"):
            scheme = "https" if self.settings.public_url.startswith("https:") else "http"
        to = f"{scheme}://{host}/{quote(path, safe=_IN_PATH)}"
        return moved(301, negotiate.with_query(to, scope.query_string), _AWAY)

    async def _check_served(self, root: bytes, headers: Any) -> None:
        """Content that a CID itself carries is somebody's invention: it could link to anything there is."""
        if "only-if-cached" in (headers.get("cache-control") or "") and not self._store.has(root):
            # https://specs.ipfs.tech/http-gateways/path-gateway/#cache-control-request-header
            raise refusal(412, "Not here", "This node does not have that content.")
        if self.settings.open_relay or root == _NO_CONTENT or self._store.referenced(root):
            return
        # Not held here; the node knows whether a site consists of it.
        if cids.identity_data(root) is not None or not await self._resolved(cids.to_text(root)):
            raise refusal(
                404, "Not served here", "This node serves what its sites consist of, and nothing else."
            )


def _parent(host: str, mark: str) -> str:
    """`//HOST` of the path gateway, from a host below it."""
    return "//" + host[host.lower().rindex(mark) + len(mark) :]


def _check_label(label: str) -> None:
    if len(label) > LABEL_MOST:
        raise refusal(
            400,
            "Too long for a host name",
            f"CID incompatible with DNS label length limit of {LABEL_MOST}: {label[:100]}",
        )


def _follow_uri(scope: Any) -> None:
    """`?uri=ipfs://…`, as browsers ask whom they were told to have such links opened by.

    Source: https://specs.ipfs.tech/http-gateways/subdomain-gateway/#uri-router
    """
    try:
        asked = parse_qs(scope.query_string, max_num_fields=formats.FIELDS_MOST).get("uri", [""])[0]
    except ValueError:
        return
    found = _URI.fullmatch(asked)
    if found is not None:
        space, name, path, rest = found.groups()
        raise moved(301, f"/{space}/{quote(name)}{quote(path, safe='/%')}{quote(rest, safe='?#=&%')}", _AWAY)
