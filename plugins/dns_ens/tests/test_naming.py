"""Spelling, hashes and wire format of names."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from ens_normalize import DisallowedSequence, ens_normalize
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decentraspace.errors import BadInput
from decentraspace_dns_ens import naming

# EIP-137, "namehash algorithm".
HASHES = {
    "eth": "93cdeb708b7545dc668eb9280176169d1c33cfd8ed6f04690a0bcc88a93fc4ae",
    "foo.eth": "de9b09fd7c5f901e23a3f19fecc54828e9c848539801e86591bd9801b019f84f",
}


@pytest.mark.parametrize("name", HASHES)
def test_namehash(name: str) -> None:
    assert naming.namehash(name).hex() == HASHES[name]


def test_wire_format() -> None:
    assert naming.wire("ab.eth") == b"\x02ab\x03eth\x00"
    assert naming.wire("ü.eth") == b"\x02\xc3\xbc\x03eth\x00"


@settings(deadline=None)
@given(st.text("abz09-_", min_size=1, max_size=12))
@example("ab--c")
@example("_a_b")
@example("__a")
@example("_0--")
@example("-")
def test_plain_labels_need_no_table(label: str) -> None:
    """What is taken without ENSIP-15's tables is what they would make of it, and what they refuse is refused."""
    if naming._PLAIN.fullmatch(label):
        assert ens_normalize(label) == label
    try:
        spelt = ens_normalize(label)
    except DisallowedSequence:
        spelt = None
    if spelt is None:
        with pytest.raises(BadInput):
            naming.normal(label + ".eth")
    else:
        assert naming.normal(label + ".eth") == spelt + ".eth"


@pytest.mark.parametrize(
    ("given_", "spelt"),
    [
        ("Name.ETH", "name.eth"),
        ("name.eth.", "name.eth"),
        ("Nick🚀.eth", "nick🚀.eth"),
        ("xn--bcher-kva.eth", "bücher.eth"),
        ("faß.eth", "faß.eth"),
        ("_x.eth", "_x.eth"),
    ],
)
def test_one_spelling(given_: str, spelt: str) -> None:
    assert naming.normal(given_) == spelt


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..eth",
        ".eth",
        "a_b.eth",
        "a b.eth",
        "a/b.eth",
        "ab--c.eth",
        "xn--pple-43d.eth",  # "аpple" with a Cyrillic а
        "xn--a.eth",  # nothing beyond ASCII in it
        "xn--bcher-kva!.eth",
        "xn--BCHER-KVA8445.eth",
        "xn--.eth",
        "аpple.eth",
        "ni\u200dck.eth",
        "a" * 254,
        "ü" * 130 + ".eth",
    ],
)
def test_no_names(name: str) -> None:
    with pytest.raises(BadInput):
        naming.normal(name)


def test_capital_letters_in_punycode_are_no_other_spelling() -> None:
    """ "Bücher" with its capital kept within the encoding is not how ENS spells it."""
    with pytest.raises(BadInput, match="spells"):
        naming.normal("xn--" + "BÜcher".encode("punycode").decode() + ".eth")


@settings(deadline=None)
@given(st.text(max_size=40))
def test_whatever_it_is_given(name: str) -> None:
    try:
        spelt = naming.normal(name)
    except BadInput:
        return
    assert naming.normal(spelt) == spelt
    assert len(naming.namehash(spelt)) == 32
    assert re.fullmatch(rb"(?:.[^.]+?)+\x00", naming.wire(spelt), re.DOTALL)


def test_what_is_heavy_is_not_loaded_for_plain_names() -> None:
    code = (
        "import sys, decentraspace_dns_ens.names as n, decentraspace_dns_ens.lookup as l\n"
        "n.naming.wire(n.naming.normal('name.eth')); l.call('owner(bytes32)', bytes(32))\n"
        "print(sorted({'web3', 'ens', 'ens_normalize'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
