from __future__ import annotations

from typing import Any

import libipld
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.records import cbor
from decentraspace.records.cbor import Link

CID = cids.make(cids.RAW, b"x")
INTS = st.integers(-(2**64), 2**64 - 1)
# libipld takes bytes that look like a CID for a link (cbor.py says so): bytes here never do.
PLAIN_BYTES = st.binary(max_size=40).filter(lambda b: b[:1] not in (b"\x01", b"\x12"))
LINKS = st.binary(max_size=20).map(lambda b: Link(cids.make(cids.RAW, b)))
LEAVES = st.none() | st.booleans() | INTS | st.binary(max_size=300) | st.text(max_size=300) | LINKS


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values up to the depth that is read."""
    values = leaves
    for _ in range(cbor.MAX_DEPTH):
        values = (
            leaves | st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=30), values, max_size=3)
        )
    return values


VALUES = nested(LEAVES)


def alike(first: Any, second: Any) -> bool:
    """Equal, and of the same types: 1 is not True, a link is not bytes."""
    if type(first) is not type(second):
        return False
    if isinstance(first, list):
        return len(first) == len(second) and all(map(alike, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(alike(first[k], second[k]) for k in first)
    return bool(first == second)


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert alike(cbor.decode(cbor.encode(value)), value)


@given(
    nested(st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | PLAIN_BYTES | st.text(max_size=300))
)
def test_libipld_writes_and_reads_the_same(value: Any) -> None:
    written = cbor.encode(value)
    assert libipld.encode_dag_cbor(value) == written
    assert alike(libipld.decode_dag_cbor(written), value)


@given(LINKS)
def test_libipld_reads_our_links_and_we_read_its(link: Link) -> None:
    assert libipld.decode_dag_cbor(cbor.encode([link])) == [bytes(link)]
    assert alike(cbor.decode(libipld.encode_dag_cbor([bytes(link)])), [link])


@given(st.dictionaries(st.text(max_size=30), st.integers(0, 9), max_size=8), st.randoms())
def test_the_order_in_which_a_map_was_made_does_not_matter(value: dict[str, int], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert cbor.encode(dict(items)) == cbor.encode(value)


def test_shorter_keys_come_first_then_lower_bytes() -> None:
    written = cbor.encode({"bb": 1, "a": 2, "ba": 3, "c": 4, "": 5})
    assert written.hex() == "a5" + "6005" + "616102" + "616304" + "62626103" + "62626201"


@pytest.mark.parametrize(
    ("value", "written"),
    [  # RFC 8949, appendix A
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (65535, "19ffff"),
        (65536, "1a00010000"),
        (2**32 - 1, "1affffffff"),
        (2**32, "1b0000000100000000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (-1, "20"),
        (-24, "37"),
        (-25, "3818"),
        (-1000, "3903e7"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        (b"", "40"),
        (bytes.fromhex("01020304"), "4401020304"),
        ("", "60"),
        ("IETF", "6449455446"),
        ("\u6c34", "63e6b0b4"),
        ("\U00010151", "64f0908591"),
        ([], "80"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
        ({}, "a0"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    ],
)
def test_known_encodings(value: Any, written: str) -> None:
    assert cbor.encode(value).hex() == written
    assert alike(cbor.decode(bytes.fromhex(written)), value)


@pytest.mark.parametrize(
    "written",
    [
        "",  # nothing
        "0000",  # two values
        "f600",
        "1800",  # numbers that are shorter otherwise
        "1817",
        "190017",
        "1900ff",
        "1a0000ffff",
        "1b00000000ffffffff",
        "3817",
        "3900ff",
        "3a0000ffff",
        "3b00000000ffffffff",
        "1c",  # reserved
        "1d",
        "1e",
        "1f",
        "18",  # cut off
        "19ff",
        "1bffffffffffffff",
        "42ff",
        "6261",
        "8101" + "00",
        "8201",
        "a1",
        "a16161",
        "5800",  # lengths that are shorter otherwise
        "5801ff",
        "780161",
        "59001700",
        "980101",
        "b8016161" + "01",
        "5f42010243030405ff",  # indefinite lengths
        "7f657374726561646d696e67ff",
        "9f01ff",
        "bf616101ff",
        "ff",
        "a2616101616102",  # a key twice
        "a2616201616102",  # keys out of order
        "a262616101616202",
        "a10101",  # keys that are no text
        "a1f601",
        "a1416101",
        "a1d82a4100" + "01",
        "61ff",  # not UTF-8
        "62c080",
        "63eda080",  # half a surrogate pair
        "64f4908080",
        "62c32862c328",
        "f7",  # undefined
        "f0",  # simple values
        "f818",
        "f8ff",
        "f814",  # false, spelt at length
        "f93c00",  # floats
        "f90000",
        "f97e00",
        "fa47c35000",
        "fb3ff199999999999a",
        "fb7ff8000000000000",
        "c074323031332d30332d32315432303a30343a30305a",  # tags
        "c249010000000000000000",
        "d8204161",
        "d9d9f700",
        "d9002a58250001551220" + "00" * 32,  # a link's tag at length
        "da0000002a58250001551220" + "00" * 32,
        "d82a" + "00",  # links to no bytes
        "d82a6100",
        "d82a" + "80",
        "d82a" + "d82a4100",
        "d82a40",  # an empty one
        "d82a4100",
        "d82a58250101551220" + "00" * 32,  # not after a zero
        "d82a582300" + "1220" + "00" * 32,  # CID of version 0
        "d82a58240001551220" + "00" * 31,  # a digest too short
        "d82a58260001551220" + "00" * 33,  # and too long
        "d82a58260001559200" + "20" + "00" * 32,  # a varint too long
        "d82a",
        "d8",
    ],
)
def test_what_is_not_canonical_is_refused(written: str) -> None:
    with pytest.raises(BadInput):
        cbor.decode(bytes.fromhex(written))


def check_read(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except BadInput:
        return
    assert cbor.encode(value) == data


def test_every_two_bytes_are_canonical_or_refused() -> None:
    for first in range(256):
        check_read(bytes((first,)))
        for second in range(256):
            check_read(bytes((first, second)))


@given(st.binary(max_size=200))
def test_any_bytes_are_canonical_or_refused(data: bytes) -> None:
    check_read(data)


@given(VALUES, st.data())
def test_a_change_to_a_value_is_canonical_or_refused(value: Any, data: st.DataObject) -> None:
    written = bytearray(cbor.encode(value))
    at = data.draw(st.integers(0, len(written) - 1))
    change = data.draw(st.binary(max_size=3))
    written[at : at + data.draw(st.integers(0, 3))] = change
    check_read(bytes(written))


def test_depth_is_bounded() -> None:
    value: Any = 0
    for _ in range(cbor.MAX_DEPTH):
        value = [value]
    assert alike(cbor.decode(cbor.encode(value)), value)
    for too_deep in ([value], {"a": value}):
        with pytest.raises(BadInput, match="nested"):
            cbor.decode(cbor.encode(too_deep))


@pytest.mark.parametrize("level", [b"\x81", b"\xa1\x61a", b"\xd8\x2a", b"\x9f", b"\x81\xa1\x60"])
def test_a_million_levels_cost_nothing(level: bytes) -> None:
    with pytest.raises(BadInput):
        cbor.decode(level * 1_000_000)


def test_the_number_of_values_is_bounded() -> None:
    fits = [[0] * 127, [0] * 126]
    assert alike(cbor.decode(cbor.encode(fits)), fits)
    for too_many in (
        [[0] * 127, [0] * 127],
        [0] * cbor.MAX_ITEMS,
        {str(i): 0 for i in range(cbor.MAX_ITEMS)},
    ):
        with pytest.raises(BadInput, match="more than 256"):
            cbor.decode(cbor.encode(too_many))


@pytest.mark.parametrize("major", [0x5B, 0x7B, 0x9B, 0xBB, 0xDB])
@pytest.mark.parametrize("count", [2**32, 2**53, 2**63, 2**64 - 1])
def test_huge_counts_are_refused_before_they_cost_anything(major: int, count: int) -> None:
    with pytest.raises(BadInput):
        cbor.decode(bytes((major,)) + count.to_bytes(8, "big") + b"\0" * 64)


@pytest.mark.parametrize("value", [1.0, float("nan"), {1}, object(), [[1.5]], {"a": 2 + 1j}])
def test_what_has_no_place_in_a_record_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        cbor.encode(value)


@given(st.integers(2**64) | st.integers(max_value=-(2**64) - 1))
@example(2**64)
@example(-(2**64) - 1)
def test_numbers_of_more_than_64_bits_are_not_written(value: int) -> None:
    with pytest.raises(OverflowError):
        cbor.encode(value)
