"""What is only uploaded is kept, and not served: no record names it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from decentraspace.content import gc
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.importer import TreeBuilder
from tests.content.stores import audit


@pytest.fixture
def site(tmp_path: Path) -> tuple[BlockStore, bytes, bytes]:
    """A store with a folder of one file: (store, root, the file's CID)."""
    store = BlockStore.open(tmp_path / "blocks", quota=1 << 24)
    writer = store.writer()
    builder = TreeBuilder(writer.put)
    file = builder.put_file("folder/page.txt", io.BytesIO(b"hello"))
    root = builder.finish().cid
    writer.flush()
    return store, root, file.cid


def test_an_upload_is_kept_whole_and_not_served(site: tuple[BlockStore, bytes, bytes]) -> None:
    store, root, file = site
    with store:
        store.pin(root, "upload:someone")
        assert not store.referenced(root)
        assert not store.referenced(file)
        list(gc.collect(store, grace=-1))
        assert store.missing(root) == []
        audit(store)


def test_a_site_made_of_an_upload_is_served_until_the_site_goes(
    site: tuple[BlockStore, bytes, bytes],
) -> None:
    store, root, file = site
    with store:
        store.pin(root, "upload:someone")
        store.pin(root, "site:one")
        assert store.referenced(root)
        assert store.referenced(file)
        audit(store)
        store.unpin(root, "upload:someone")
        assert store.referenced(file)
        store.pin(root, "upload:someone")
        store.unpin(root, "site:one")
        assert not store.referenced(file)
        list(gc.collect(store, grace=-1))
        assert store.missing(root) == []
        audit(store)
        store.unpin(root, "upload:someone")
        list(gc.collect(store, grace=-1))
        assert store.stats().blocks == 0
