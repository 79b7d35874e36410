from __future__ import annotations

import io
import itertools
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.content import hamt, importer
from decentraspace.content.dagpb import links_of
from decentraspace.content.importer import (
    CHUNK,
    Entry,
    FileTree,
    TreeBuilder,
    add_directory,
    add_file,
    add_path,
)
from decentraspace.content.scan import scan_path
from decentraspace.errors import BadInput, Conflict, NotFound, TooLarge
from tests.content.blocks import Blocks
from tests.content.kubo import Kubo
from tests.content.recipes import RECIPES, SLOW, File, Link, Tree, to_blocks, to_disk
from tests.content.vectors import make

VECTORS: dict[str, str] = json.loads((Path(make.__file__).parent / "unixfs.json").read_text())["cids"]
_marked = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in RECIPES]


def forget(cid: bytes, data: bytes) -> None:
    """A sink."""


def test_each_recipe_has_its_vector() -> None:
    assert VECTORS.keys() == RECIPES.keys()


@pytest.mark.parametrize("name", _marked)
def test_cids_are_those_of_kubo(name: str) -> None:
    assert cids.to_text(to_blocks(RECIPES[name], forget).cid) == VECTORS[name]


_FEW_FILES = [
    name for name in RECIPES if name not in SLOW and not name.startswith(("folder of 2", "sharded"))
]


@pytest.mark.parametrize("name", [*_FEW_FILES, "sharded, with everything"])
def test_scanned_from_disk_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / "input"
    to_disk(RECIPES[name], path)
    scan = scan_path(path)
    assert cids.to_text(scan.root.cid) == VECTORS[name]
    stored: dict[bytes, bytes] = {}
    assert to_blocks(RECIPES[name], stored.__setitem__) == scan.root
    assert stored.keys() == scan.blocks.keys()
    for cid in list(stored)[:2000]:
        assert scan.read(cid) == stored[cid]
        assert scan.length(cid) == len(stored[cid])


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in SLOW])
def test_the_kubo_at_hand_agrees(kubo: Kubo, name: str, tmp_path: Path) -> None:
    to_disk(RECIPES[name], tmp_path / "input")
    assert kubo.cid(tmp_path / "input") == VECTORS[name]


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
trees: st.SearchStrategy[Tree] = st.recursive(
    st.builds(File, st.integers(0, 600_000), st.sampled_from("abc")) | st.builds(Link, names),
    lambda inner: st.dictionaries(names.filter(lambda name: name not in {".", ".."}), inner, max_size=6),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees)
def test_kubo_agrees_on_any_tree(kubo: Kubo, tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    path = tmp_path_factory.mktemp("tree") / "input"
    to_disk(tree, path)
    assert (
        kubo.cid(path) == cids.to_text(add_path(path, forget).cid) == cids.to_text(scan_path(path).root.cid)
    )


@pytest.mark.parametrize(
    "leaves", [1, 2, 173, 174, 175, 2 * 174, 2 * 174 + 1, 174 * 174 - 1, 174 * 174, 174 * 174 + 1, 60_600]
)
def test_trees_of_several_levels(kubo: Kubo, leaves: int) -> None:
    """With chunks of 16 bytes a file of a megabyte is as deep as one of 16 GB."""
    data = File(leaves * 16 - 3, "levels").read()
    tree = FileTree(forget)
    for start in range(0, len(data), 16):
        tree.add(data[start : start + 16])
    theirs = kubo.run("add", "-Q", "--only-hash", "--cid-version=1", "--chunker=size-16", stdin=data)
    assert cids.to_text(tree.finish().cid) == theirs.decode().strip()


class _Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


def test_memory_does_not_grow_with_the_file() -> None:
    tracemalloc.start()
    add_file(_Zeros(400 * 1024 * 1024), forget)  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


class _Dribble(io.RawIOBase):
    """Gives a few bytes at a time, as sockets do."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(min(size, 70_001))


def test_short_reads_make_the_same_chunks() -> None:
    data = File(3 * CHUNK + 5, "dribble").read()
    assert add_file(_Dribble(data), forget) == add_file(io.BytesIO(data), forget)  # type: ignore[arg-type]


def test_sizes_of_an_entry() -> None:
    blocks = Blocks()
    root = to_blocks(RECIPES["a site"], blocks.sink)
    assert root.kind == "directory"
    assert root.size == 12_345 + 40_000 + 2 * 700_000 + sum(100 + n for n in range(50))
    again = blocks[to_blocks(File(700_000, "big"), blocks.sink).cid]
    assert root.tsize == sum(map(len, blocks.values())) + 700_000 + len(again)  # the duplicate counts twice


def test_children_come_before_their_parents() -> None:
    seen: set[bytes] = set()

    def sink(cid: bytes, data: bytes) -> None:
        assert seen.issuperset(links_of(cid, data))
        seen.add(cid)

    to_blocks(RECIPES["sharded twice"], sink)


def test_hidden_files_can_be_left_out(kubo: Kubo, tmp_path: Path) -> None:
    to_disk(RECIPES["hidden files"], tmp_path / "input")
    without = kubo.run("add", "-r", "-Q", "--only-hash", "--cid-version=1", str(tmp_path / "input"))
    assert cids.to_text(scan_path(tmp_path / "input", hidden=False).root.cid) == without.decode().strip()


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    to_disk(RECIPES["a site"], tmp_path / "input")
    seen: list[int] = []
    root = scan_path(tmp_path / "input", on_bytes=seen.append).root
    assert sum(seen) == root.size
    seen.clear()
    add_path(tmp_path / "input", forget, on_bytes=seen.append)
    assert sum(seen) == root.size


def test_a_file_that_changes_during_the_deploy(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    scan = scan_path(tmp_path)
    leaf = cids.make(cids.RAW, b"before")
    assert scan.read(leaf) == b"before"
    for content in (b"after!", b"short", b""):
        file.write_bytes(content)
        with pytest.raises(Conflict, match="changed"):
            scan.read(leaf)
    file.unlink()
    with pytest.raises(Conflict, match="cannot be read"):
        scan.read(leaf)


def test_what_cannot_be_added(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        add_path(tmp_path / "nothing", forget)
    os.mkfifo(tmp_path / "pipe")
    for add in (lambda p: add_path(p, forget), scan_path):
        with pytest.raises(BadInput, match="neither a file"):
            add(tmp_path)
    (tmp_path / "pipe").unlink()
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))).write_bytes(b"")
    with pytest.raises(BadInput, match="UTF-8"):
        add_path(tmp_path, forget)


def test_folders_too_deep(tmp_path: Path) -> None:
    here = tmp_path
    for _ in range(importer.MAX_DEPTH + 1):
        here = here / "d"
    here.mkdir(parents=True)
    with pytest.raises(TooLarge):
        add_path(tmp_path, forget)


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    os.symlink(tmp_path, tmp_path / "site" / "up")
    os.symlink("up", tmp_path / "site" / "round")
    blocks = Blocks()
    add_path(tmp_path / "site", blocks.sink)
    assert not any(data == b"secret" for data in blocks.values())
    assert add_path(tmp_path / "site" / "up", forget).kind == "symlink"


# --- trees from strangers


def builder(**limits: int) -> TreeBuilder:
    return TreeBuilder(forget, **limits)


def test_any_order_gives_the_same_tree() -> None:
    paths = ["b/c", "a", "b/a/x", "index.html", "z"]
    roots = set()
    for order in (paths, paths[::-1], sorted(paths, key=len)):
        tree = builder()
        for path in order:
            tree.put_file(path, io.BytesIO(path.encode()))
        roots.add(tree.finish())
    assert len(roots) == 1


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a//b",
        "a/",
        "..",
        "../a",
        "a/../b",
        ".",
        "a/./b",
        "a\0b",
        "a\\b",
        "\\\\host\\x",
        "n" * 256,
        "é" * 128,
        "caf\udce9",
        "./../a",
        "a/\udce9/b",
    ],
)
def test_unsafe_paths(path: str) -> None:
    with pytest.raises(BadInput):
        builder().put_file(path, io.BytesIO())
    with pytest.raises(BadInput):
        builder().put_symlink(path, "x")
    if path not in {"", ".", "a/"}:
        with pytest.raises(BadInput):
            builder().put_directory(path)


def test_clashes() -> None:
    tree = builder()
    tree.put_file("a/b", io.BytesIO())
    for path in ("a/b", "a", "./a/b"):
        with pytest.raises(BadInput, match="twice"):
            tree.put_file(path, io.BytesIO())
    with pytest.raises(BadInput, match="below"):
        tree.put_file("a/b/c", io.BytesIO())
    with pytest.raises(BadInput, match="below"):
        tree.put_directory("a/b")
    tree.put_directory("a/")
    tree.put_directory("./")


def test_limits_of_a_tree() -> None:
    tree = builder(max_files=2, max_bytes=10)
    with pytest.raises(TooLarge, match="bytes"):
        tree.put_file("a", io.BytesIO(b"x" * 11))
    tree.put_file("b", io.BytesIO())
    with pytest.raises(TooLarge, match="files"):
        tree.put_file("c", io.BytesIO())
    with pytest.raises(TooLarge, match="deep"):
        builder().put_file("d/" * 64 + "x", io.BytesIO())
    tree = builder(max_files=2)
    with pytest.raises(TooLarge, match="folders"):
        tree.put_file("a/b/c/d", io.BytesIO())


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "..", "../x", "../../x", "a/../../../x", "", "a\0b", "x" * 5000]
)
def test_symlinks_that_leave(target: str) -> None:
    with pytest.raises(BadInput):
        builder().put_symlink("folder/link", "../" + target if target.startswith("..") else target)


def test_symlinks_that_stay() -> None:
    tree = builder()
    tree.put_symlink("folder/link", "../index.html")
    tree.put_symlink("folder/other", "./a/../link")
    tree.put_file("index.html", io.BytesIO(b"hi"))
    assert tree.finish().kind == "directory"


def test_names_with_one_hash_are_refused_in_words() -> None:
    """64-bit MurmurHash3 has no key: two names with one hash can be made, and no shard can hold both."""
    first, second = colliding_names()
    assert first != second
    assert hamt.name_hash(first) == hamt.name_hash(second)
    leaf = Entry(cids.make(cids.RAW, b""), 0, 0, "file")
    small = add_directory({first: leaf, second: leaf}, forget)
    assert small.kind == "directory"
    with pytest.raises(BadInput, match="hash"):
        add_directory(
            {first: leaf, second: leaf, **{f"{n}".ljust(200, "x"): leaf for n in range(1500)}}, forget
        )


def colliding_names() -> tuple[str, str]:
    """Two blocks of 16 bytes that cancel out, by running one round of the hash backwards."""
    mask = (1 << 64) - 1
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F

    def rotate(value: int, by: int) -> int:
        return (value << by | value >> (64 - by)) & mask

    def mix1(k: int) -> int:
        return rotate(k * c1 & mask, 31) * c2 & mask

    def unmix1(k: int) -> int:
        return rotate(k * pow(c2, -1, 1 << 64) & mask, 33) * pow(c1, -1, 1 << 64) & mask

    def mix2(k: int) -> int:
        return rotate(k * c2 & mask, 33) * c1 & mask

    def unmix2(k: int) -> int:
        return rotate(k * pow(c1, -1, 1 << 64) & mask, 31) * pow(c2, -1, 1 << 64) & mask

    def state(k1: int, k2: int) -> tuple[int, int]:
        h1 = (rotate(mix1(k1), 27) * 5 + 0x52DCE729) & mask
        h2 = ((rotate(mix2(k2), 31) + h1) * 5 + 0x38495AB5) & mask
        return h1, h2

    def block(k1: int, k2: int) -> bytes:
        return k1.to_bytes(8, "little") + k2.to_bytes(8, "little")

    # The state after the first block differs; the second block is chosen so that the state after it does not.
    seen: dict[bytes, bytes] = {}
    goal = (0x1234567, 0x89ABCDE)
    for number in itertools.count():
        one = f"{number:016d}".encode()
        h1, h2 = state(int.from_bytes(one[:8], "little"), int.from_bytes(one[8:], "little"))
        mixed1 = rotate((goal[0] - h2) & mask, 37) ^ h1
        next1 = (goal[0] * 5 + 0x52DCE729) & mask
        mixed2 = rotate((goal[1] - next1) & mask, 33) ^ h2
        two = block(unmix1(mixed1), unmix2(mixed2))
        try:
            name = (one + two).decode()
        except UnicodeDecodeError:
            continue
        if "/" in name or "\0" in name:
            continue
        seen[one] = two
        if len(seen) == 2:
            first, second = ((a + b).decode() for a, b in seen.items())
            return first, second
    raise AssertionError
