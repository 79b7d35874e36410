"""IPFS clients that are not ours take content from our gateway and get the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from decentraspace.config import load
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.car import CarDecoder
from decentraspace.content.importer import add_path
from decentraspace.gateway.control import ControlServer
from decentraspace.gateway.process import serve_gateway
from decentraspace.names.links import Answer
from tests.support import find_helia, find_kubo, free_port, require_real


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Folders in folders, an empty file, one of many chunks, and a directory large enough to be sharded."""
    rng = random.Random(7)
    folder = tmp_path / "site"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>hello</h1>")
    (folder / "empty").write_bytes(b"")
    (folder / "a" / "large.bin").write_bytes(rng.randbytes(3_000_000))
    (folder / "a" / "b" / "ü name.txt").write_text("text")
    (folder / "many").mkdir()
    for number in range(6000):
        (folder / "many" / f"file-{number:05}").write_bytes(str(number).encode())
    return folder


@pytest.fixture
async def gateway(tmp_path: Path, site: Path) -> AsyncIterator[tuple[str, str]]:
    """(URL of a real gateway that has the site, root CID)."""
    port = free_port()
    data = tmp_path / "node"
    config = load(environ={}, overrides={"node": {"data_dir": str(data)}, "gateway": {"port": port}})

    async def no(*_: object) -> bool:
        return False

    async def count(*_: object) -> None:
        return None

    async def unknown(_: str) -> Answer:
        return Answer(None, 60)

    with BlockStore.open(data / "blocks", quota=10**9) as store:
        writer = store.writer()
        root = add_path(site, writer.put)
        writer.flush()
        store.pin(root.cid, "test")
        async with trio.open_nursery() as nursery:
            control = ControlServer(data / "gateway.sock", fetch=no, resolve=no, usage=count, link=unknown)
            await nursery.start(control.run)
            await nursery.start(serve_gateway, config, control)
            yield f"http://127.0.0.1:{port}", cids.to_text(root.cid)
            nursery.cancel_scope.cancel()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def test_helia_fetches_a_site(gateway: tuple[str, str], site: Path, tmp_path: Path) -> None:
    node, script = find_helia()
    require_real("Helia (tests/interop/build_helia.sh)", node)
    url, root = gateway
    done = await trio.run_process(
        [str(node), str(script), url, root, str(tmp_path / "out")],
        capture_stderr=True,
        check=False,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )
    assert done.returncode == 0, done.stderr.decode()
    assert contents(tmp_path / "out") == contents(site)


async def test_kubo_imports_a_site_and_has_the_same_root(
    gateway: tuple[str, str], site: Path, tmp_path: Path
) -> None:
    ipfs = find_kubo()
    require_real("Kubo (tests/interop/build_kubo.sh)", ipfs)
    url, root = gateway
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"{url}/ipfs/{root}", params={"format": "car"})
    assert answer.status_code == 200
    environment = {**os.environ, "IPFS_PATH": str(tmp_path / "kubo")}

    def kubo(*arguments: str, data: bytes | None = None) -> bytes:
        result = subprocess.run(
            [str(ipfs), *arguments], input=data, env=environment, capture_output=True, check=False
        )
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout

    kubo("init")
    kubo("dag", "import", "--pin-roots=true", data=answer.content)
    kubo("get", "-o", str(tmp_path / "got"), root)
    assert contents(tmp_path / "got") == contents(site)
    shutil.rmtree(tmp_path / "got")
    added = kubo("add", "-Q", "-r", "-H", "--cid-version=1", "--raw-leaves", str(site)).decode().strip()
    assert added == root
    exported = CarDecoder()
    blocks = exported.feed(kubo("dag", "export", root))
    exported.close()
    assert exported.roots == [cids.parse(root)]
    ours = CarDecoder()
    assert {cid for cid, _ in blocks} == {cid for cid, _ in ours.feed(answer.content)}
