"""Real Kubo and real Helia exchange blocks with a node over libp2p, both ways."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from decentraspace.content import cid as cids
from decentraspace.content import reader
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.car import CarDecoder
from tests.interop.kubo import kubo
from tests.network.exchanging import add, node
from tests.network.peers import Factory, until
from tests.support import find_helia, require_real


@pytest.fixture
def factory(tmp_path: Path) -> Any:
    made = Factory(tmp_path)
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Folders in folders, an empty file, one of many chunks, and a directory large enough to be sharded."""
    rng = random.Random(7)
    folder = tmp_path / "site"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>hello</h1>")
    (folder / "empty").write_bytes(b"")
    (folder / "a" / "large.bin").write_bytes(rng.randbytes(6_000_000))
    (folder / "a" / "b" / "ü name.txt").write_text("text")
    (folder / "many").mkdir()
    for number in range(1000):
        (folder / "many" / f"{number:0240}").write_bytes(str(number).encode())
    return folder


def files_of(blocks: BlockStore, directory: bytes, path: str = "") -> Iterator[tuple[str, bytes]]:
    """What `contents` gives of a folder, of a directory in a store."""
    get = blocks.get_or_raise
    for entry in reader.list_directory(get, directory):
        if reader.stat(get, entry.cid).kind == "directory":
            yield from files_of(blocks, entry.cid, f"{path}{entry.name}/")
        else:
            yield path + entry.name, b"".join(reader.iter_file(get, entry.cid))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def test_kubo_gets_a_site_from_a_node(factory: Factory, site: Path, tmp_path: Path) -> None:
    async with kubo(tmp_path / "kubo") as ipfs, node(factory, tmp_path / "blocks") as ours:
        root = add(ours.blocks, site)
        await ipfs.run("swarm", "connect", ours.peer.address)
        await ipfs.run("pin", "add", cids.to_text(root))  # `get` asks for one block after the other
        await ipfs.run("get", "-o", tmp_path / "got", cids.to_text(root))
        assert contents(tmp_path / "got") == contents(site)
        exported = CarDecoder()
        blocks = exported.feed(await ipfs.run("dag", "export", cids.to_text(root)))
        exported.close()
        assert exported.roots == [root]
        assert len(blocks) > 1000
        assert all(ours.blocks.get(cid) == data for cid, data in blocks)
        assert ours.bitswap.served.blocks >= len({cid for cid, _ in blocks})
        assert not ours.peer.accepted


async def test_a_node_gets_a_folder_from_kubo(factory: Factory, site: Path, tmp_path: Path) -> None:
    async with kubo(tmp_path / "kubo") as ipfs:
        added = await ipfs.run("add", "-Q", "-r", "-H", "--cid-version=1", "--raw-leaves", site)
        root = cids.parse(added.decode().strip())
        async with node(factory, tmp_path / "blocks", ipfs_peers=(await ipfs.address(),)) as ours:
            await until(lambda: len(ours.peer.connected()) == 1)
            result = await ours.fetcher.fetch(root, deadline=60, max_bytes=10**8)
            assert ours.blocks.missing(root) == []
            assert result.bytes == ours.blocks.dag_size(root)
            with BlockStore.open(tmp_path / "again", quota=10**9) as again:
                assert add(again, site) == root
                assert again.dag_size(root) == result.bytes


def helia() -> list[str]:
    """The command, up to its first argument."""
    nodejs, script = find_helia()
    require_real("Helia (tests/interop/build_helia.sh)", nodejs)
    return [str(nodejs), str(script.with_name("bitswap.mjs"))]


async def test_helia_gets_a_site_from_a_node(factory: Factory, site: Path, tmp_path: Path) -> None:
    command = helia()
    async with node(factory, tmp_path / "blocks") as ours:
        root = cids.to_text(add(ours.blocks, site))
        with trio.fail_after(120):
            done = await trio.run_process(
                [*command, "fetch", ours.peer.address, root, str(tmp_path / "got")],
                capture_stderr=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr.decode()
        assert contents(tmp_path / "got") == contents(site)


async def test_a_node_gets_a_folder_from_helia(factory: Factory, site: Path, tmp_path: Path) -> None:
    command = helia()
    with subprocess.Popen(
        [*command, "serve", str(site)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with trio.fail_after(60):
                said = json.loads(await trio.to_thread.run_sync(process.stdout.readline))
            root = cids.parse(said["root"])
            async with node(factory, tmp_path / "blocks", ipfs_peers=(said["address"],)) as ours:
                await until(lambda: len(ours.peer.connected()) == 1)
                await ours.fetcher.fetch(root, deadline=60, max_bytes=10**8)
                assert dict(files_of(ours.blocks, root)) == contents(site)
        finally:
            process.stdin.close()
