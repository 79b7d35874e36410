"""Messages of Bitswap: the same bytes as Google's Protocol Buffers make of the published schema; bounded."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.bitswap.pb import bitswap_pb2  # generated from the schema of the specification

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.network.bitswap import wire
from decentraspace.network.bitswap.wire import Message, Want

CIDS = st.binary(max_size=200).map(lambda data: cids.make(cids.RAW, data))
MESSAGES = st.builds(
    Message,
    wants=st.lists(st.builds(Want, CIDS, st.booleans(), st.booleans(), st.booleans()), max_size=20),
    full=st.booleans(),
    blocks=st.lists(st.tuples(CIDS.map(wire.prefix), st.binary(max_size=3000)), max_size=5),
    presences=st.lists(st.tuples(CIDS, st.booleans()), max_size=20),
    pending=st.integers(0, 2**31 - 1),
)


def body(data: bytes) -> bytes:
    length, offset = cids.read_varint(data)
    assert length == len(data) - offset
    return data[offset:]


@given(MESSAGES)
def test_others_read_what_is_written(message: Message) -> None:
    theirs = bitswap_pb2.Message()
    theirs.ParseFromString(body(wire.encode(message)))
    kind = theirs.Wantlist.WantType.Value
    assert [
        (e.block, e.wantType == kind("Have"), e.sendDontHave, e.cancel) for e in theirs.wantlist.entries
    ] == (message.wants)
    assert theirs.wantlist.full == message.full
    assert [(b.prefix, b.data) for b in theirs.payload] == message.blocks
    assert [(p.cid, p.type == theirs.Have) for p in theirs.blockPresences] == message.presences
    assert theirs.pendingBytes == message.pending


@given(MESSAGES)
def test_what_others_write_is_read(message: Message) -> None:
    theirs = bitswap_pb2.Message(pendingBytes=message.pending)
    theirs.wantlist.full = message.full
    for want in message.wants:
        theirs.wantlist.entries.add(
            block=want.cid,
            priority=-1,  # ten bytes
            cancel=want.cancel,
            wantType=int(want.have),
            sendDontHave=want.dont_have,
        )
    for prefix, data in message.blocks:
        theirs.payload.add(prefix=prefix, data=data)
    for cid, there in message.presences:
        theirs.blockPresences.add(cid=cid, type=0 if there else 1)
    theirs.blocks.append(b"of version 1.0")
    assert wire.decode(theirs.SerializeToString()) == message


@given(st.binary(max_size=2000))
def test_nothing_but_a_refusal_comes_of_random_bytes(data: bytes) -> None:
    try:
        wire.decode(data)
    except BadInput:
        return


@given(MESSAGES, st.data())
def test_nothing_but_a_refusal_comes_of_damaged_messages(message: Message, choose: st.DataObject) -> None:
    data = bytearray(body(wire.encode(message)) or b"\x00")
    data[choose.draw(st.integers(0, len(data) - 1))] ^= choose.draw(st.integers(1, 255))
    try:
        wire.decode(bytes(data))
    except BadInput:
        return


@pytest.mark.parametrize("inside", [b"\x0a\x00", b"\x22\x00", b"\x1a\x00", b"\x10\x01"])
def test_a_message_of_countless_pieces_is_refused(inside: bytes) -> None:
    many = inside * 1_000_000
    with pytest.raises(BadInput):
        wire.decode(many)
    with pytest.raises(BadInput):
        wire.decode(b"\x0a" + cids.varint(len(many)) + many)


def test_of_a_long_wantlist_only_so_many_are_read() -> None:
    wants = [Want(cids.make(cids.RAW, str(n).encode())) for n in range(3000)]
    assert wire.decode(body(wire.encode(Message(wants)))).wants == wants[: wire.MAX_WANTS]


def test_a_block_is_named_by_what_it_hashes_to() -> None:
    data = b"hello"
    sha = cids.make(cids.DAG_PB, data)
    long = b"\x01\x55\x13\x40" + hashlib.sha512(data).digest()
    v0 = sha[2:]
    assert wire.prefix(v0) == b"\x00\x70\x12\x20"
    for cid in (sha, long, v0):
        assert wire.multihash_of(wire.prefix(cid), data) == cids.multihash(cids.normal(cid))
    for bad in (
        b"",
        b"\x01",
        b"\x01\x55\x12\x10",
        b"\x01\x55\x00\x05",
        b"\x01\x55\x12\x20\x00",
        b"\xff" * 20,
    ):
        assert wire.multihash_of(bad, data) is None
