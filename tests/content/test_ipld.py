"""Documents with links: read as another decoder reads them, whatever their author did."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import libipld
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.content import ipld, reader
from decentraspace.errors import BadInput, NotFound

LEAF = cids.make(cids.RAW, b"leaf")
_plain = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9) | st.binary(max_size=9)
)
_values = st.recursive(
    _plain | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(_values)
def test_as_another_encoder_wrote_it(value: Any) -> None:
    assert ipld.decode(cids.DAG_CBOR, bytes(libipld.encode_dag_cbor(value))) == value


@given(st.binary(max_size=60))
def test_anything_may_be_in_a_block(block: bytes) -> None:
    for codec in (cids.DAG_CBOR, cids.DAG_JSON):
        with suppress(BadInput):
            ipld.to_json(ipld.decode(codec, block))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x81" * 5000,
        b"\x9b" + b"\xff" * 8,
        b"\x1f",
        b"\xa1\x01\x01",
        b"\xd8\x2a\x41\x01",
        b"\x80\x00",
        b"\xf8\x20",
    ],
)
def test_what_is_no_document(block: bytes) -> None:
    with pytest.raises(BadInput):
        ipld.decode(cids.DAG_CBOR, block)


def test_too_deep_a_document() -> None:
    with pytest.raises(BadInput):
        ipld.decode(cids.DAG_JSON, b"[" * 500 + b"]" * 500)
    with pytest.raises(BadInput):
        ipld.decode(cids.DAG_JSON, b"[" * 100_000)


def test_links_are_no_byte_strings() -> None:
    link = b"\xd8\x2a" + b"\x58" + bytes([len(LEAF) + 1]) + b"\0" + LEAF
    value = ipld.decode(cids.DAG_CBOR, b"\xa2\x61a" + link + b"\x61b\x41x")
    assert value == {"a": ipld.Link(LEAF), "b": b"x"}
    text = json.dumps(ipld.to_json(value))
    assert ipld.decode(cids.DAG_JSON, text.encode()) == value


def test_paths_lead_through_documents() -> None:
    inner = json.dumps({"list": [1, {"/": cids.to_text(LEAF)}]}).encode()
    inner_cid = cids.make(cids.DAG_JSON, inner)
    outer = json.dumps({"a": {"b": {"/": cids.to_text(inner_cid)}}, "n": 1}).encode()
    outer_cid = cids.make(cids.DAG_JSON, outer)
    get = {LEAF: b"leaf", inner_cid: inner, outer_cid: outer}.__getitem__
    found = reader.resolve(get, outer_cid, ["a", "b", "list", "1"])
    assert (found.stat.cid, found.visited, found.trail) == (
        LEAF,
        (outer_cid, inner_cid),
        (outer_cid, inner_cid, LEAF),
    )
    assert reader.resolve(get, outer_cid, ["a", "b"]).stat == reader.Stat(inner_cid, "node", 0)
    for path in (["a"], ["n"], ["a", "b", "list", "0"]):
        with pytest.raises(reader.Inside):
            reader.resolve(get, outer_cid, path)
    for path in (["x"], ["a", "x"], ["n", "x"], ["a", "b", "list", "2"], ["a", "b", "list", "-1"]):
        with pytest.raises(NotFound):
            reader.resolve(get, outer_cid, path)
