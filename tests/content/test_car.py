from __future__ import annotations

from pathlib import Path

import libipld
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decentraspace.content import car, dagpb, reader, unixfs
from decentraspace.content import cid as cids
from decentraspace.content.cid import varint
from decentraspace.content.scan import scan_path
from decentraspace.errors import BadInput, DecentraSpaceError, Unprocessable
from tests.content.blocks import Blocks
from tests.content.kubo import Kubo
from tests.content.recipes import RECIPES, to_blocks, to_disk

Block = tuple[bytes, bytes]
blocks_of_any_codec = st.builds(
    lambda codec, data: (cids.make(codec, data), data),
    st.sampled_from([cids.RAW, cids.DAG_PB, cids.DAG_CBOR, cids.DAG_JSON]),
    st.binary(max_size=300),
)
block_lists = st.lists(blocks_of_any_codec, max_size=8)


def decode(data: bytes, piece: int = 1 << 20) -> tuple[list[bytes] | None, list[Block]]:
    decoder = car.CarDecoder()
    found: list[Block] = []
    for start in range(0, len(data), piece):
        found += decoder.feed(data[start : start + piece])
    decoder.close()
    return decoder.roots, found


def version_2(payload: bytes, *, padding: int = 0, index: bytes = b"", size: int | None = None) -> bytes:
    start = 11 + 40 + padding
    head = bytes(16) + start.to_bytes(8, "little")
    head += (len(payload) if size is None else size).to_bytes(8, "little")
    head += ((start + len(payload)) if index else 0).to_bytes(8, "little")
    return bytes.fromhex("0aa16776657273696f6e02") + head + bytes(padding) + payload + index


@given(block_lists, st.lists(blocks_of_any_codec, max_size=3), st.integers(1, 400))
def test_round_trip_in_pieces_of_any_size(blocks: list[Block], roots: list[Block], piece: int) -> None:
    names = [cid for cid, _ in roots]
    whole = car.encode(names, blocks)
    assert decode(whole, piece) == (names, blocks)
    assert decode(version_2(whole), piece) == (names, blocks)
    assert decode(version_2(whole, padding=77, index=b"index" * 30), piece) == (names, blocks)


def test_a_decoder_that_is_not_ours_agrees() -> None:
    leaf, node = b"\x01", bytes(libipld.encode_dag_cbor({"n": cids.make(cids.DAG_CBOR, b"\x01")}))
    root = cids.make(cids.DAG_CBOR, node)
    header, blocks = libipld.decode_car(
        car.encode([root], [(root, node), (cids.make(cids.DAG_CBOR, leaf), leaf)])
    )
    assert header == {"version": 1, "roots": [root]}
    assert blocks == {root: {"n": cids.make(cids.DAG_CBOR, leaf)}, cids.make(cids.DAG_CBOR, leaf): 1}


@settings(max_examples=300)
@given(block_lists.filter(bool), st.data())
def test_damage_never_yields_a_block_that_was_not_sent(blocks: list[Block], data: st.DataObject) -> None:
    whole = car.encode([blocks[0][0]], blocks)
    if data.draw(st.booleans()):
        whole = version_2(whole, padding=data.draw(st.sampled_from([0, 9])))
    broken = bytearray(whole)
    where = data.draw(st.integers(0, len(whole) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "remove"])):
        case "flip":
            broken[where] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del broken[where:]
        case "insert":
            broken[where:where] = data.draw(st.binary(min_size=1, max_size=12))
        case _:
            del broken[where : where + data.draw(st.integers(1, 12))]
    decoder = car.CarDecoder()
    found: list[Block] = []
    try:
        for start in range(0, len(broken), 37):
            found += decoder.feed(bytes(broken[start : start + 37]))
        decoder.close()
    except DecentraSpaceError:
        pass
    for cid, content in found:
        assert cids.digest_matches(cid, content)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        decode(data, 7)
    except DecentraSpaceError:
        return


@given(block_lists.filter(bool), st.data())
def test_every_cut_is_noticed(blocks: list[Block], data: st.DataObject) -> None:
    """Unless it falls between two blocks, where a CAR of version 1 cannot tell."""
    head = car.header([blocks[0][0]])
    ends = {len(head)}
    whole = head
    for cid, content in blocks:
        whole += car.frame(cid, content)
        ends.add(len(whole))
    at = data.draw(st.integers(0, len(whole) - 1))
    if at in ends:
        assert decode(whole[:at])[0] == [blocks[0][0]]
    else:
        with pytest.raises(BadInput, match="cut off"):
            decode(whole[:at])
    two = version_2(whole)
    with pytest.raises(BadInput):
        decode(two[: data.draw(st.integers(0, len(two) - 1))])


RAW = cids.make(cids.RAW, b"data")


def test_a_block_that_lies() -> None:
    decoder = car.CarDecoder()
    good = car.frame(RAW, b"data")
    assert decoder.feed(car.header([RAW]) + good) == [(RAW, b"data")]
    with pytest.raises(Unprocessable, match="does not match"):
        decoder.feed(car.frame(RAW, b"lies"))


def _header(body: object) -> bytes:
    data = bytes(libipld.encode_dag_cbor(body))
    return varint(len(data)) + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\x80",
        b"\x80\x00",
        b"\xff" * 9,
        b"hello, this is no CAR",
        varint(car.MAX_HEADER + 1),
        varint(1 << 62),
        _header({"version": 2, "roots": []}),
        _header({"version": 3}),
        _header({"roots": [RAW]}),
        _header({"version": 1, "roots": "x"}),
        _header({"version": 1, "roots": [["a"]]}),
        _header({"version": 1, "roots": [{}]}),
        _header({"version": 1, "roots": ["text"]}),
        _header({"version": 1, "roots": [b"no cid"]}),
        _header({"version": 1, "roots": [RAW] * 101}),
        _header([1]),
        _header("x"),
        varint(60_000) + b"\x81" * 60_000,
        car.header([RAW]) + b"\0",
        car.header([RAW]) + varint(cids.MAX_BLOCK + cids.MAX_CID + 1),
        car.header([RAW]) + varint(1 << 60),
        car.header([RAW]) + b"\x02\x01\x55",
        car.header([RAW]) + varint(10) + RAW[:10],
        car.header([RAW]) + car.frame(b"\x02\x55\x12\x20" + RAW[4:], b"data"),
        car.header([RAW]) + car.frame(b"\x01\x55\x11\x14" + bytes(20), b"sha1 is not known here"),
        car.header([RAW]) + car.frame(b"\x01\x55\x12\x04" + RAW[4:8], b"data"),
        version_2(b""),
        version_2(car.header([RAW]) + car.frame(RAW, b"data"), size=10),
        version_2(car.header([RAW]) + car.frame(RAW, b"data"), size=1 << 40),
        version_2(version_2(car.header([RAW]))),
        bytes.fromhex("0aa16776657273696f6e02") + bytes(40),
    ],
)
def test_what_is_no_car(data: bytes) -> None:
    for piece in (1, 1 << 20):
        with pytest.raises((BadInput, Unprocessable)):
            decode(data, piece)


def test_the_largest_block_and_the_next() -> None:
    big = bytes(cids.MAX_BLOCK)
    cid = cids.make(cids.RAW, big)
    assert decode(car.encode([cid], [(cid, big)]), 65_536)[1] == [(cid, big)]
    with pytest.raises(BadInput):
        decode(car.encode([cid], [(cids.make(cids.RAW, big + b"x"), big + b"x")]))


def test_a_decoder_holds_one_block_and_no_more() -> None:
    data = bytes(cids.MAX_BLOCK)
    framed = car.frame(cids.make(cids.RAW, data), data)
    decoder = car.CarDecoder()
    decoder.feed(car.header([RAW]))
    for _ in range(40):
        for start in range(0, len(framed), 50_000):
            decoder.feed(framed[start : start + 50_000])
            assert len(decoder._buffer) <= len(framed) + 50_000


def test_version_0_cids_are_read() -> None:
    node = dagpb.encode([], unixfs.DIRECTORY)
    old = cids.make(cids.DAG_PB, node)[2:]
    whole = _header({"version": 1, "roots": []}) + varint(len(old) + len(node)) + old + node
    assert decode(whole)[1] == [(b"\x01\x70" + old, node)]


@pytest.mark.parametrize(
    "name", ["a site", "sharded, with everything", "symlinks", "file of 1 B", "order of names"]
)
def test_kubo_reads_ours_and_we_read_kubos(kubo: Kubo, name: str, tmp_path: Path) -> None:
    blocks = Blocks()
    root = to_blocks(RECIPES[name], blocks.sink).cid
    text = cids.to_text(root)
    ours = car.encode([root], list(reader.walk(blocks.read, root)))
    (tmp_path / "ours.car").write_bytes(ours)
    assert text.encode() in kubo.run("dag", "import", "--stats", str(tmp_path / "ours.car"))
    theirs = kubo.run("dag", "export", "--progress=false", text)
    assert theirs == ours  # the same blocks in the same order, each once
    assert decode(theirs, 4096)[0] == [root]
    if name not in {"symlinks", "order of names"}:
        kubo.run("get", "-o", str(tmp_path / "got"), text)
        to_disk(RECIPES[name], tmp_path / "made")
        assert scan_path(tmp_path / "got").root == scan_path(tmp_path / "made").root
