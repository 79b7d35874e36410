from __future__ import annotations

from pathlib import Path

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.siteindex import SiteEntry, SiteIndex
from decentraspace.gateway import routing
from decentraspace.gateway.request import Settings
from decentraspace.gateway.worker import Gateway

ID = "a" * 16
HOST = f"site--{ID}.localhost:8080"
ROOT = cids.make(cids.DAG_PB, b"")


def test_strangers_who_ask_for_ever_more_paths_fill_no_memory(tmp_path: Path) -> None:
    with BlockStore.open(tmp_path / "blocks", quota=10**6) as store:
        SiteIndex(store).put(f"site--{ID}", SiteEntry(ID, "site", bytes(20), ROOT, 1))
    settings = Settings(
        str(tmp_path / "blocks"), str(tmp_path / "socket"), "localhost", False, False, 10**6, 1.0
    )
    gateway = Gateway(settings)
    with gateway.store:
        router = gateway.router
        for number in range(routing._TARGETS_MOST + 100):
            target = router.known_site(HOST, f"/{number}")
            assert target is not None
            assert (target.root, target.path) == (ROOT, f"/{number}")
        assert len(router._targets) == routing._TARGETS_MOST
        assert router.known_site(HOST, f"/{number}") is target
        assert router.known_site(HOST, "/0") is not None
        assert len(router._targets) == routing._TARGETS_MOST
