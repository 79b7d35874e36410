"""DAGs made to harm: without end, contradicting themselves, leading out of their root."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.content import dagpb, hamt, reader, unixfs
from decentraspace.content.dagpb import Link
from decentraspace.errors import BadInput, DecentraSpaceError, NotFound, Unprocessable
from tests.content.blocks import Blocks, message


def symlink(blocks: Blocks, target: str) -> Link:
    return Link(blocks.node([], unixfs.encode_symlink(target.encode())), "", 0)


def folder(blocks: Blocks, **entries: Link) -> bytes:
    links = [link._replace(name=name) for name, link in sorted(entries.items())]
    return blocks.node(links, unixfs.DIRECTORY)


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "/", "..", "../..", "../secret", "a/../../..", "link", "./link/x", ""]
)
def test_symlinks_that_leave_or_go_round(target: str) -> None:
    blocks = Blocks()
    root = folder(blocks, link=symlink(blocks, target))
    outside = folder(blocks, secret=Link(blocks.raw(b"secret")), site=Link(root))
    assert reader.resolve(blocks.read, outside, ["secret"]).stat.size == 6
    try:
        found = reader.resolve(blocks.read, root, ["link"]).stat
    except NotFound:
        return
    assert target == ""
    assert found.cid == root


def test_symlinks_that_go_round_in_a_ring() -> None:
    blocks = Blocks()
    root = folder(blocks, a=symlink(blocks, "b"), b=symlink(blocks, "c/d"), c=symlink(blocks, "."))
    with pytest.raises(NotFound):
        reader.resolve(blocks.read, root, ["a"])
    with pytest.raises(NotFound):
        reader.resolve(blocks.read, symlink(blocks, "x").cid, [])


def test_long_symlinks_cost_little() -> None:
    blocks = Blocks()
    inner = folder(blocks, x=Link(blocks.raw(b"x")))
    for target in ("a/../" * 300_000, "a/" * 500_000, "/".join(["a/.."] * 127) + "/l2"):
        root = folder(blocks, a=Link(inner), link=symlink(blocks, target), l2=symlink(blocks, target))
        blocks.asked.clear()
        with pytest.raises(NotFound):
            reader.resolve(blocks.read, root, ["link"])
        assert len(blocks.asked) < 5 * reader.MAX_STEPS


def test_paths_of_many_segments() -> None:
    with pytest.raises(BadInput):
        reader.resolve(Blocks().read, cids.make(cids.RAW, b""), ["a"] * 1000)


def test_sizes_that_contradict() -> None:
    blocks = Blocks()
    leaf = Link(blocks.raw(b"four"))
    for sizes in ([5], [3], [4, 4], []):
        cid = blocks.node([leaf], unixfs.encode_file(4, sizes))
        with pytest.raises(Unprocessable):
            list(reader.iter_file(blocks.read, cid))
    inner = Link(blocks.node([leaf], unixfs.encode_file(4, [4])))
    cid = blocks.node([inner, leaf], unixfs.encode_file(9, [5, 4]))
    with pytest.raises(Unprocessable):
        list(reader.iter_file(blocks.read, cid))


def test_data_in_a_node_comes_before_that_of_its_links() -> None:
    blocks = Blocks()
    data = message((1, 2), (2, b"in"), (3, 6), (4, 4))
    cid = blocks.node([Link(blocks.raw(b"line"))], data)
    assert b"".join(reader.iter_file(blocks.read, cid)) == b"inline"
    assert b"".join(reader.iter_file(blocks.read, cid, 1, 4)) == b"nli"
    assert reader.stat(blocks.read, cid).size == 6


def test_a_file_with_other_things_in_it() -> None:
    blocks = Blocks()
    cbor = cids.make(cids.DAG_CBOR, b"\x01")
    blocks[cbor] = b"\x01"
    for part in (Link(folder(blocks)), symlink(blocks, "x"), Link(cbor), Link(blocks.node([], None))):
        cid = blocks.node([part], unixfs.encode_file(1, [1]))
        with pytest.raises((Unprocessable, BadInput)):
            list(reader.iter_file(blocks.read, cid))


def test_a_file_that_claims_more_than_there_is() -> None:
    """A few blocks, each naming the next many times: reading a range costs what the range costs."""
    blocks = Blocks()
    cid, size = blocks.raw(b"x"), 1
    for _ in range(6):
        cid, size = blocks.node([Link(cid)] * 174, unixfs.encode_file(size * 174, [size] * 174)), size * 174
    assert reader.stat(blocks.read, cid).size == size == 174**6
    blocks.asked.clear()
    assert b"".join(reader.iter_file(blocks.read, cid, size // 2, size // 2 + 3)) == b"xxx"
    assert len(blocks.asked) < 20
    assert len(list(reader.walk(blocks.read, cid))) == 7
    for _ in range(2):
        cid, size = blocks.node([Link(cid)] * 174, unixfs.encode_file(size * 174, [size] * 174)), size * 174
    with pytest.raises(Unprocessable, match="larger"):
        reader.stat(blocks.read, cid)


def test_a_tree_without_content_ends() -> None:
    blocks = Blocks()
    cid = blocks.raw(b"")
    for _ in range(30):
        cid = blocks.node([Link(cid)] * 50, unixfs.encode_file(0, [0] * 50))
    assert list(reader.iter_file(blocks.read, cid)) == []
    assert len(list(reader.walk(blocks.read, cid))) == 31
    with pytest.raises(Unprocessable, match="more than"):
        list(reader.walk(blocks.read, cid, max_blocks=30))


def test_a_chain_of_nodes_is_walked_but_not_read_forever() -> None:
    blocks = Blocks()
    cid = blocks.raw(b"x")
    for _ in range(20_000):
        cid = blocks.node([Link(cid)], unixfs.encode_file(1, [1]))
    assert len(list(reader.walk(blocks.read, cid))) == 20_001
    with pytest.raises(Unprocessable, match="deep"):
        list(reader.iter_file(blocks.read, cid))


def shard(blocks: Blocks, links: list[Link], *, fanout: int = 256, hash_type: int = 0x22) -> bytes:
    return blocks.node(links, message((1, 5), (2, b"\xff"), (5, hash_type), (6, fanout)))


def test_shards_that_name_themselves_again_and_again() -> None:
    blocks = Blocks()
    cid = shard(blocks, [Link(blocks.raw(b"x"), "00leaf")])
    for _ in range(7):
        cid = shard(blocks, [Link(cid, f"{slot:02X}") for slot in range(256)])
    with pytest.raises(Unprocessable):
        list(reader.list_directory(blocks.read, cid))


def test_shards_deeper_than_their_hash() -> None:
    blocks = Blocks()
    way = hamt.name_hash("name")
    cid = shard(blocks, [Link(blocks.raw(b"x"), f"{way[7]:02X}name")])
    for slot in (*reversed(way[:7]),):
        cid = shard(blocks, [Link(cid, f"{slot:02X}")])
    assert reader.lookup(blocks.read, cid, "name")[0] == blocks.raw(b"x")
    assert [entry.name for entry in reader.list_directory(blocks.read, cid)] == ["name"]
    cid = shard(blocks, [Link(cid, f"{way[0]:02X}")])
    deeper = shard(blocks, [Link(cid, f"{way[0]:02X}")])
    with pytest.raises(Unprocessable):
        list(reader.list_directory(blocks.read, deeper))
    round_and_round = shard(blocks, [Link(blocks.raw(b"x"), "zz")])
    for _ in range(12):
        round_and_round = shard(blocks, [Link(round_and_round, f"{slot:02X}") for slot in range(256)])
    with pytest.raises((Unprocessable, NotFound)):
        reader.lookup(blocks.read, round_and_round, "name")


@pytest.mark.parametrize(
    ("fanout", "kind"), [(0, 0x22), (3, 0x22), (255, 0x22), (2048, 0x22), (1 << 60, 0x22), (256, 0x12)]
)
def test_shards_of_a_kind_that_does_not_exist(fanout: int, kind: int) -> None:
    blocks = Blocks()
    cid = shard(blocks, [], fanout=fanout, hash_type=kind)
    with pytest.raises(Unprocessable):
        list(reader.list_directory(blocks.read, cid))
    with pytest.raises(Unprocessable):
        reader.lookup(blocks.read, cid, "x")


def test_shards_with_something_else_below() -> None:
    blocks = Blocks()
    for below in (folder(blocks), blocks.node([], unixfs.encode_file(0, []))):
        cid = shard(blocks, [Link(below, "A0")])
        with pytest.raises(Unprocessable):
            list(reader.list_directory(blocks.read, cid))
    for name in ("", "A"):
        cid = shard(blocks, [Link(shard(blocks, []), name)])
        with pytest.raises(Unprocessable):
            list(reader.list_directory(blocks.read, cid))


@settings(deadline=None)
@given(st.data())
def test_any_dag_ends_in_content_or_in_words(data: st.DataObject) -> None:
    """Nodes with any links and any meaning over each other: every reader ends, with an expected error if any."""
    blocks = Blocks()
    made = [blocks.raw(b"leaf"), b"\x01\x55\x00\x02hi", cids.make(cids.RAW, b"missing")]
    small = st.integers(0, 8)
    for _ in range(data.draw(st.integers(1, 8))):
        links = data.draw(
            st.lists(
                st.builds(
                    Link, st.sampled_from(made), st.sampled_from(["", "a", "00", "00a", ".."]), st.just(0)
                ),
                max_size=4,
            )
        )
        meaning = message(
            (1, data.draw(st.integers(0, 6))),
            *data.draw(
                st.lists(
                    st.just((2, data.draw(st.sampled_from([b"", b"..", b"a/../a", b"abc"])))), max_size=1
                )
            ),
            *[(4, size) for size in data.draw(st.lists(small, max_size=4))],
            *data.draw(st.sampled_from([[], [(5, 0x22), (6, 256)], [(5, 0x22), (6, 8)]])),
        )
        made.append(blocks.node(links, meaning))
    root = made[-1]
    for read in (
        lambda: list(reader.walk(blocks.read, root)),
        lambda: list(reader.iter_file(blocks.read, root, 1, 50)),
        lambda: list(reader.list_directory(blocks.read, root)),
        lambda: reader.lookup(blocks.read, root, "a"),
        lambda: reader.resolve(blocks.read, root, ["a", "a", "00"]),
        lambda: dagpb.links_of(root, blocks[root]),
    ):
        try:
            read()
        except DecentraSpaceError:
            continue


def doubled(blocks: Blocks, levels: int) -> tuple[bytes, int]:
    cid, size = blocks.raw(b"x"), 1
    for _ in range(levels):
        cid, size = blocks.node([Link(cid)] * 2, unixfs.encode_file(2 * size, [size] * 2)), 2 * size
    return cid, size


def test_a_file_of_doubled_parts_is_walked_once_where_each_block_is_wanted_once() -> None:
    blocks = Blocks()
    cid, size = doubled(blocks, 40)
    assert len(list(reader.file_blocks(blocks.read, cid, once=True))) <= 80
    assert len(list(reader.file_blocks(blocks.read, cid, 1, size - 1, once=True))) <= 240


@given(st.integers(0, 64), st.integers(0, 64))
def test_once_leaves_out_only_what_came_before(start: int, end: int) -> None:
    blocks = Blocks()
    cid, _ = doubled(blocks, 6)
    every = dict.fromkeys(cid for cid, _ in reader.file_blocks(blocks.read, cid, start, end))
    once = dict.fromkeys(cid for cid, _ in reader.file_blocks(blocks.read, cid, start, end, once=True))
    assert list(once) == list(every)


def test_a_part_that_is_given_two_sizes() -> None:
    blocks = Blocks()
    part = Link(blocks.raw(b"x"))
    cid = blocks.node([part, part], unixfs.encode_file(3, [1, 2]))
    with pytest.raises(Unprocessable, match="another size"):
        list(reader.file_blocks(blocks.read, cid, once=True))
