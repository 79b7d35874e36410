from __future__ import annotations

import json

import libipld
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.content import dagpb, unixfs
from decentraspace.content.dagpb import Link
from decentraspace.errors import BadInput
from tests.content.blocks import message
from tests.content.kubo import Kubo

CID = cids.make(cids.RAW, b"x")
_ODD = b"\x01\x55\x00\x02hi"  # a CID of another length

cid_bytes = st.sampled_from([CID, _ODD, cids.make(cids.DAG_JSON, b""), cids.make(cids.DAG_PB, b"y")])
links = st.builds(
    Link, cid_bytes, st.text(st.characters(exclude_categories=["Cs"]), max_size=150), st.integers(0, 1 << 63)
)


@given(st.lists(links, max_size=8), st.none() | st.binary(max_size=20))
def test_what_is_written_is_read(written: list[Link], data: bytes | None) -> None:
    block = dagpb.encode(written, data)
    assert dagpb.decode(block) == (written, data)
    assert dagpb.data_of(block) == data
    for link in written:
        first = next(other.cid for other in written if other.name == link.name)
        assert dagpb.find(block, link.name) == first
    assert dagpb.find(block, "\0nowhere") == next((k.cid for k in written if k.name == "\0nowhere"), None)


@given(st.lists(links, max_size=4), st.data())
def test_damage_is_bad_input_or_another_node(written: list[Link], data: st.DataObject) -> None:
    block = bytearray(dagpb.encode(written, unixfs.DIRECTORY))
    for _ in range(data.draw(st.integers(1, 3))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    block = block[: data.draw(st.integers(0, len(block)))]
    for read in (
        dagpb.decode,
        dagpb.data_of,
        lambda b: dagpb.find(b, "a"),
        lambda b: dagpb.links_of(b"\x01\x70\x00\x00", b),
    ):
        try:
            read(bytes(block))
        except BadInput:
            continue


@given(st.binary(max_size=60))
def test_any_bytes(block: bytes) -> None:
    for codec in (cids.RAW, cids.DAG_PB, cids.DAG_CBOR, cids.DAG_JSON):
        try:
            found = dagpb.links_of(cids.make(codec, block), block)
        except BadInput:
            continue
        assert all(cids.validate(cid) for cid in found)


def test_fields_that_are_left_out() -> None:
    for fields, link in (
        ([(1, CID)], Link(CID, "", 0)),
        ([(1, CID), (2, b"name")], Link(CID, "name", 0)),
        ([(1, CID), (3, 9)], Link(CID, "", 9)),
        ([(1, CID[2:])], Link(b"\x01\x70" + CID[2:], "", 0)),
    ):
        block = message((2, message(*fields)))  # type: ignore[arg-type]
        assert dagpb.decode(block).links == [link]
        assert dagpb.find(block, link.name) == link.cid


@pytest.mark.parametrize(
    "block",
    [
        message((2, b"")),
        message((2, message((2, b"no cid")))),
        message((2, message((2, b"name"), (1, CID)))),
        message((2, message((1, CID), (1, CID)))),
        message((2, message((1, CID), (2, b"\xff")))),
        message((2, message((1, CID), (4, 1)))),
        message((2, message((1, b"no cid")))),
        message((1, b"a"), (1, b"b")),
        message((2, message((1, CID))), (1, b""), (2, message((1, CID)))),
        message((3, b"")),
        message((1, 5)),
        b"\x12",
        b"\x12\x05a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
)
def test_malformed_nodes(block: bytes) -> None:
    with pytest.raises(BadInput):
        dagpb.decode(block)


def test_links_of_cbor_are_those_under_the_tag() -> None:
    look_alike = bytes([0x58, len(CID)]) + CID  # a byte string that would read as a CID
    block = b"\x84" + look_alike + bytes(libipld.encode_dag_cbor([{"deep": [CID]}, 1.5, None])) + b"\x20\x61a"
    assert dagpb.links_of(cids.make(cids.DAG_CBOR, block), block) == [CID]
    deep = b"\x81" * 500_000 + b"\xf6"
    assert dagpb.cbor_links(deep) == []


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x9f\xff",
        b"\x82\x01",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x01\x01",
        b"\xc1\x00",
        b"\xd8\x2a\x01",
        b"\xd8\x2a\x41\x00",
        b"\xd8\x2a\x43\x01\x55\x00",
        b"\xd8\x2a",
        b"\x19\x01",
    ],
)
def test_malformed_cbor(block: bytes) -> None:
    with pytest.raises(BadInput):
        dagpb.cbor_links(block)


def test_links_of_json() -> None:
    text = cids.to_text(CID)
    document = {"a": [{"/": text}], "b": {"/": {"bytes": "AAAA"}}, "c": {"/": text, "more": 1}, "d": text}
    block = json.dumps(document).encode()
    assert dagpb.links_of(cids.make(cids.DAG_JSON, block), block) == [CID]
    for bad in (b"[", b"[" * 100_000, b"1" * 10_000, b"\xff"):
        with pytest.raises(BadInput):
            dagpb.links_of(cids.make(cids.DAG_JSON, bad), bad)


def test_kubo_agrees_about_links(kubo: Kubo) -> None:
    leaf = kubo.run("add", "-Q", "--cid-version=1", stdin=b"leaf").decode().strip()
    document = {"x": [{"/": leaf}, {"/": {"bytes": "AVUSIA"}}], "n": {"y": {"/": leaf}}}
    for codec in ("dag-cbor", "dag-json"):
        stored = kubo.run("dag", "put", f"--store-codec={codec}", stdin=json.dumps(document).encode())
        cid = stored.decode().strip()
        block = kubo.run("block", "get", cid)
        assert set(dagpb.links_of(cids.parse(cid), block)) == {
            cids.parse(line) for line in kubo.run("refs", cid).decode().split()
        }


@pytest.mark.parametrize("packed", [True, False])
def test_block_sizes_packed_or_not(packed: bool) -> None:
    sizes = [(4, b"\x05\x80\x02")] if packed else [(4, 5), (4, 256)]
    assert unixfs.decode(message((1, 2), (3, 261), *sizes)).blocksizes == (5, 256)


@pytest.mark.parametrize("data", [None, b"", b"\x08\x06", b"\x08", b"\x12\x01a", b"\x08\x02\x12\x05a"])
def test_what_is_not_unixfs(data: bytes | None) -> None:
    with pytest.raises(BadInput):
        unixfs.decode(data)
