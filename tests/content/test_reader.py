"""Reading what we and others wrote: ranges, paths, listings, walks."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decentraspace.content import car, hamt, reader
from decentraspace.content import cid as cids
from decentraspace.content.importer import CHUNK, Entry, FileTree, TreeBuilder, add_directory
from decentraspace.errors import NotFound, Unprocessable
from tests.content.blocks import Blocks
from tests.content.recipes import RECIPES, File, Link, Tree, to_blocks
from tests.content.vectors import make

FOREIGN = json.loads((Path(make.__file__).parent / "foreign.json").read_text())["cars"]


def small_chunks(data: bytes, size: int) -> tuple[Blocks, Entry]:
    """A tree of several levels from few bytes."""
    blocks = Blocks()
    tree = FileTree(blocks.sink)
    for start in range(0, len(data), size):
        tree.add(data[start : start + size])
    return blocks, tree.finish()


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(1, 40), st.integers(0, 2100), st.none() | st.integers(0, 2100))
def test_any_range_of_any_file(size: int, chunk: int, start: int, end: int | None) -> None:
    data = File(size, "range").read()
    blocks, entry = small_chunks(data, chunk)
    assert b"".join(reader.iter_file(blocks.read, entry.cid, start, end)) == data[start:end]
    assert reader.stat(blocks.read, entry.cid).size == size


def test_a_range_reads_the_blocks_it_needs_only() -> None:
    data = File(174 * 3 * 10, "few").read()
    blocks, entry = small_chunks(data, 10)
    assert b"".join(reader.iter_file(blocks.read, entry.cid, 2500, 2505)) == data[2500:2505]
    assert len(blocks.asked) == 3  # the root, one node, one leaf
    asked = [cid for cid, _ in reader.file_blocks(blocks.read, entry.cid, 2500, 2505)]
    assert asked == blocks.asked[:3]


@pytest.mark.parametrize("name", FOREIGN)
def test_what_others_laid_out(name: str) -> None:
    blocks = Blocks()
    decoder = car.CarDecoder()
    for cid, data in decoder.feed(base64.b64decode(FOREIGN[name]["car"])):
        blocks.sink(cid, data)
    decoder.close()
    root = cids.parse(FOREIGN[name]["cid"])
    assert decoder.roots == [root]
    walked = {cid for cid, _ in reader.walk(blocks.read, root)}
    assert walked == {cid for cid in blocks if cids.identity_data(cid) is None}
    check(blocks, root, make.FOREIGN[name][1])


def check(blocks: Blocks, cid: bytes, tree: Tree) -> None:
    """Everything in `tree` is found below `cid`, by path and by listing, and nothing else."""
    if isinstance(tree, File):
        data = tree.read()
        found = reader.stat(blocks.read, cid)
        assert (found.kind, found.size) == ("file", tree.size)
        assert b"".join(reader.iter_file(blocks.read, cid)) == data
        for start in range(0, tree.size, max(1, tree.size // 7)):
            end = start + tree.size // 3
            assert b"".join(reader.iter_file(blocks.read, cid, start, end)) == data[start:end]
    elif isinstance(tree, Link):
        assert reader.stat(blocks.read, cid).kind == "symlink"
    else:
        listed = {entry.name: entry.cid for entry in reader.list_directory(blocks.read, cid)}
        assert listed.keys() == tree.keys()
        for name, inner in list(tree.items())[:: 1 + len(tree) // 200]:
            assert reader.lookup(blocks.read, cid, name)[0] == listed[name]
            check(blocks, listed[name], inner)
        assert reader.lookup(blocks.read, cid, "not there")[0] is None


@pytest.mark.parametrize("name", ["a site", "order of names", "symlinks", "sharded twice", "empty folder"])
def test_what_we_laid_out(name: str) -> None:
    blocks = Blocks()
    root = to_blocks(RECIPES[name], blocks.sink)
    check(blocks, root.cid, RECIPES[name])
    assert next(cid for cid, _ in reader.walk(blocks.read, root.cid)) == root.cid
    assert {cid for cid, _ in reader.walk(blocks.read, root.cid)} == blocks.keys()


def test_a_name_in_a_sharded_folder_is_found_along_its_hash() -> None:
    blocks = Blocks()
    root = to_blocks(RECIPES["sharded, three levels"], blocks.sink)
    blocks.asked.clear()
    found, visited = reader.lookup(blocks.read, root.cid, "f12345")
    assert found == cids.make(cids.RAW, b"")
    assert visited == tuple(blocks.asked)
    assert visited[0] == root.cid
    assert len(visited) <= 4


def test_a_listing_reads_a_shard_in_order() -> None:
    blocks = Blocks()
    names = [f"{n}.html" for n in range(9000)]
    leaf = Entry(blocks.raw(b""), 0, 0, "file")
    root = add_directory(dict.fromkeys(names, leaf), blocks.sink)
    listed = [entry.name for entry in reader.list_directory(blocks.read, root.cid)]
    assert listed == sorted(names, key=hamt.name_hash)


def test_a_missing_block_is_named() -> None:
    blocks = Blocks()
    root = to_blocks({"a": {"b": File(3 * CHUNK, "m")}}, blocks.sink)
    file = reader.resolve(blocks.read, root.cid, ["a", "b"]).stat.cid
    gone = cids.make(cids.RAW, File(3 * CHUNK, "m").read()[CHUNK : 2 * CHUNK])
    del blocks[gone]
    pieces = reader.iter_file(blocks.read, file)
    assert len(next(pieces)) == CHUNK
    with pytest.raises(reader.BlockMissing) as caught:
        next(pieces)
    assert caught.value.cid == gone
    with pytest.raises(reader.BlockMissing):
        list(reader.walk(blocks.read, root.cid))


def test_inlined_blocks_are_not_asked_for() -> None:
    blocks = Blocks()
    inlined = b"\x01\x55\x00\x05hello"
    root = add_directory({"hi": Entry(inlined, 5, 5, "file")}, blocks.sink)
    found = reader.resolve(blocks.read, root.cid, ["hi"]).stat
    assert b"".join(reader.iter_file(blocks.read, found.cid)) == b"hello"
    assert [cid for cid, _ in reader.walk(blocks.read, root.cid)] == [root.cid]


def site() -> tuple[Blocks, bytes]:
    blocks = Blocks()
    tree = TreeBuilder(blocks.sink)
    for path in ("index.html", "docs/index.html", "docs/deep/page.html", "a b/é.html"):
        tree.put_file(path, io.BytesIO(path.encode()))
    tree.put_symlink("latest", "docs")
    tree.put_symlink("docs/home", "../index.html")
    tree.put_symlink("docs/deep/again", "../../latest/./deep/page.html")
    tree.put_symlink("docs/dir", ".")
    tree.put_symlink("dangling", "docs/nothing")
    return blocks, tree.finish().cid


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("index.html", "index.html"),
        ("docs/deep/page.html", "docs/deep/page.html"),
        ("/docs//deep/page.html/", "docs/deep/page.html"),
        ("a b/é.html", "a b/é.html"),
        ("latest/index.html", "docs/index.html"),
        ("latest/home", "index.html"),
        ("latest/deep/again", "docs/deep/page.html"),
        ("docs/dir/dir/dir/index.html", "docs/index.html"),
    ],
)
def test_paths(path: str, content: str) -> None:
    blocks, root = site()
    resolved = reader.resolve(blocks.read, root, path.split("/"))
    assert b"".join(reader.iter_file(blocks.read, resolved.stat.cid)) == content.encode()
    # The blocks a client needs to check the path by itself: nothing more is read to walk it again.
    kept = Blocks()
    kept.update({cid: blocks[cid] for cid in (*resolved.visited, resolved.stat.cid)})
    assert reader.resolve(kept.read, root, path.split("/")) == resolved


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "docs/nothing",
        "index.html/x",
        "dangling",
        "dangling/x",
        "..",
        "docs/../index.html",
        ".",
        "docs/.",
        "latest/nothing",
        "DOCS",
        "docs/home/x",
    ],
)
def test_paths_that_lead_nowhere(path: str) -> None:
    blocks, root = site()
    with pytest.raises(NotFound):
        reader.resolve(blocks.read, root, path.split("/"))


def test_what_is_no_directory_has_no_listing() -> None:
    blocks, root = site()
    for path in ("index.html", "docs/deep/page.html"):
        cid = reader.resolve(blocks.read, root, path.split("/")).stat.cid
        with pytest.raises((NotFound, Unprocessable)):
            list(reader.list_directory(blocks.read, cid))
