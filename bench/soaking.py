"""The load of the soak: owners, visitors and callers of the API, each a thread at a bounded rate."""

from __future__ import annotations

import http.client
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter

from tests.network.lab.nodes import LabNode
from tests.network.lab.owner import Owner, Site, Version

from decentraspace.content import cid as cids

_OWNERS, _SITES_EACH = 4, 3
_DEPLOYS, _VIEWS, _CALLS = 0.7, 50.0, 4.0  # a second
_ROLLBACKS = 0.15  # of deploys
_CONNECTIONS = 8
_KEPT_FOR = 200  # requests after which a visitor's connection is replaced
_REMEMBERED = 4  # versions of a site


class Load(ABC):
    """Something to do `rate` times a second until `end`. `done`: what came of it, counted."""

    rate: float

    def __init__(self) -> None:
        self.end = threading.Event()
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        due = time.monotonic()
        try:
            while not self.end.wait(max(0.0, due - time.monotonic())):
                self.once()
                # A node that is slow for once is not asked for all that it missed afterwards.
                due = max(due + 1 / self.rate, time.monotonic() - 1)
        except BaseException as error:  # noqa: BLE001 - told by whoever started this
            self.failure = error

    @abstractmethod
    def once(self) -> None: ...


class Deploys(Load):
    """Several owners publish new versions of several sites each, or go back by one."""

    rate = _DEPLOYS

    def __init__(self, node: LabNode, chance: random.Random) -> None:
        super().__init__()
        self._node, self._random = node, chance
        self._owners = [Owner(random.Random(chance.random())) for _ in range(_OWNERS)]
        for owner in self._owners:
            for _ in range(_SITES_EACH):
                owner.new_site()

    def once(self) -> None:
        owner = self._random.choice(self._owners)
        site = self._random.choice(owner.sites)
        back = len(site.versions) > 1 and self._random.random() < _ROLLBACKS
        came = owner.deploy(site, self._node, back=back)
        self.done[f"{'rollbacks' if back else 'deploys'} {came}"] += 1
        if came != "acknowledged" and not came.startswith("unclear"):
            raise RuntimeError(f"the node does not take version {len(site.versions)}: {came}")
        del site.versions[:-_REMEMBERED]

    def shown(self) -> list[tuple[Site, Version]]:
        """What visitors may ask for, oldest sites first."""
        sites = [site for owner in self._owners for site in owner.sites]
        return [(site, version) for site in sites if (version := site.newest) is not None]


class Visitors(Load):
    """Over some kept connections: mostly home pages, else all that the gateway can be asked for."""

    rate = _VIEWS

    def __init__(self, node: LabNode, deploys: Deploys, chance: random.Random) -> None:
        super().__init__()
        self._node, self._deploys, self._random = node, deploys, chance
        self._connections: list[http.client.HTTPConnection | None] = [None] * _CONNECTIONS
        self._etags: dict[str, str] = {}  # of home pages, by host
        self._cold = (
            self._file, self._part, self._unchanged, self._compressed, self._by_cid, self._raw, self._car,
            self._tar, self._refused, self._nowhere, self._missing,
        )  # fmt: skip

    def once(self) -> None:
        shown = self._deploys.shown()
        if not shown:
            return
        if self._random.random() < 0.8:
            site, _ = self._random.choice(shown[:3])
            self._get("hot", "/", self._host(site))
        else:
            self._random.choice(self._cold)(*self._random.choice(shown))

    def _host(self, site: Site) -> str:
        return f"{site.label}--{site.id}.localhost:{self._node.ports[1]}"

    def _name(self, version: Version) -> str:
        return self._random.choice(sorted(version.files))

    def _file(self, site: Site, version: Version) -> None:
        self._get("file", "/" + self._name(version), self._host(site))

    def _part(self, site: Site, version: Version) -> None:
        self._get("range", "/" + self._name(version), self._host(site), Range="bytes=5-99")

    def _unchanged(self, site: Site, version: Version) -> None:
        host = self._host(site)
        self._get("revisited", "/", host, **{"If-None-Match": self._etags.get(host, '""')})

    def _compressed(self, site: Site, version: Version) -> None:
        self._get("compressed", "/", self._host(site), **{"Accept-Encoding": "br, gzip"})

    def _by_cid(self, site: Site, version: Version) -> None:
        self._get("by cid", f"/ipfs/{cids.to_text(version.root)}/{self._name(version)}")

    def _raw(self, site: Site, version: Version) -> None:
        cid = self._random.choice(sorted(version.blocks))
        self._get("raw", f"/ipfs/{cids.to_text(cid)}?format=raw")

    def _car(self, site: Site, version: Version) -> None:
        self._get("car", f"/ipfs/{cids.to_text(version.root)}?format=car&dag-scope=all")

    def _tar(self, site: Site, version: Version) -> None:
        self._get("tar", f"/ipfs/{cids.to_text(version.root)}?format=tar")

    def _refused(self, site: Site, version: Version) -> None:
        self._get("wrong codec", f"/ipfs/{cids.to_text(version.root)}/?format=dag-json")

    def _nowhere(self, site: Site, version: Version) -> None:
        self._get("no site", "/index.html", f"site{self._random.randrange(10**9)}--{site.id}.localhost")

    def _missing(self, site: Site, version: Version) -> None:
        self._get("no file", f"/{self._random.randrange(10**9)}.html", self._host(site))

    def _get(self, kind: str, path: str, host: str = "", **headers: str) -> None:
        slot = self._random.randrange(_CONNECTIONS)
        connection = self._connections[slot]
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._node.ports[1], timeout=60)
            self._connections[slot] = connection
        try:
            if host:
                headers["Host"] = host
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            if path == "/":
                self._etags[host] = response.headers.get("ETag", '""')
            self.done[f"{kind} {response.status}"] += 1
        except (OSError, http.client.HTTPException):
            self.done[f"{kind} broken off"] += 1
            connection.close()
            self._connections[slot] = None
        if self._random.random() < 1 / _KEPT_FOR:
            connection.close()
            self._connections[slot] = None


class Api(Load):
    """Everyone's questions to the API, right and wrong, each over a connection of its own."""

    rate = _CALLS

    def __init__(self, node: LabNode, deploys: Deploys) -> None:
        super().__init__()
        self._node, self._deploys, self._random = node, deploys, random.Random(3)

    def once(self) -> None:
        shown = self._deploys.shown()
        if not shown:
            return
        site, version = self._random.choice(shown)
        path = self._random.choice(
            (
                "/metrics",
                "/readyz",
                "/healthz",
                "/openapi.json",
                "/auth/login/",
                "/moderation/log/",
                "/nothing/",
                f"/hosting/status/?site={site.id}",
                f"/hosting/status/?site={'a' * 16}",
                f"/routing/v1/providers/{cids.to_text(version.root)}",
                f"/routing/v1/peers/{self._node.key.peer_id}",
            )
        )
        answer = self._node.get(path, self._node.ports[2])
        self.done[f"api {answer.status if answer else 'broken off'}"] += 1
