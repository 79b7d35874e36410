"""Texts, addresses, words and settings, each for itself."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from decentraspace.errors import ConfigError
from decentraspace_dns_handshake import guidance
from decentraspace_dns_handshake.addresses import public
from decentraspace_dns_handshake.chain import NameState
from decentraspace_dns_handshake.settings import Settings, read, server
from decentraspace_dns_handshake.texts import Target, owners, statement, target

README = Path(__file__).resolve().parents[1] / "README.md"
OWNER = "0x" + "aB" * 20


@pytest.mark.parametrize(
    ("texts", "leads"),
    [
        (["dnslink=/ipfs/abc"], Target("ipfs", "abc")),
        (["dnslink=/ipns/k51abc/a/b "], Target("ipns", "k51abc", "/a/b")),
        (["dnslink=/ipns/b.example", "x", "dnslink=/ipns/a.example"], Target("ipns", "a.example")),
        (["dnslink=/ipfs/abc", "decentraspace-site=abcdefgh234567ab"], Target("site", "abcdefgh234567ab")),
        (["decentraspace-site=home--abcdefgh234567ab"], Target("site", "home--abcdefgh234567ab")),
        (["dnslink=/http/x", "dnslink=", "dnslink=/ipfs/", "dnslink=/ipfs/a b", "DNSLINK=/ipfs/a"], None),
        (["decentraspace-site=../x", "decentraspace-site=", "decentraspace-site=A"], None),
        (["dnslink=/ipfs/" + "a" * 254], None),
        (["dnslink=/ipfs/a/" + "b" * 1000], None),
        ([], None),
    ],
)
def test_where_texts_lead(texts: list[str], leads: Target | None) -> None:
    assert target(texts) == leads
    assert target(reversed(texts)) == leads


def test_whom_texts_name() -> None:
    texts = [
        f"decentraspace-owner={OWNER}",
        "decentraspace-owner=0x12",
        f"x decentraspace-owner={OWNER}",
        OWNER,
    ]
    assert owners(texts) == {OWNER.lower()}


def test_what_is_signed_is_the_same_however_the_wallet_is_written() -> None:
    assert statement("welcome", OWNER) == statement("welcome", OWNER.lower())
    assert statement("welcome", OWNER) != statement("welcome2", OWNER)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "127.0.0.1", "0.0.0.0", "100.64.0.1", "169.254.169.254", "192.168.1.1", "224.0.0.1", "240.0.0.1",
     "255.255.255.255", "::", "::1", "fe80::1", "fd00::1", "fec0::1", "ff0e::1", "::ffff:10.0.0.1", "::7f00:1",
     "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1"],
)  # fmt: skip
def test_addresses_that_are_nobodys_on_the_internet(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_of_the_internet(address: str) -> None:
    assert public(address)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (NameState("x", 1, possible=False), "cannot be a name"),
        (NameState("x", 1, locked=True), "DNSSEC proof"),
        (NameState("x", 100, opens=1108), "in 1008 blocks (about 7 days)"),
        (
            NameState("x", 9, "OPENING", stats={"blocksUntilBidding": 1, "hoursUntilBidding": 0.17}),
            "1 block (about 10 m",
        ),
        (
            NameState("x", 9, "BIDDING", stats={"blocksUntilReveal": 20, "hoursUntilReveal": 3.33}),
            "20 blocks (about 3 h",
        ),
        (NameState("x", 9, "REVEAL", highest=1_500_000), "within some time"),
        (NameState("x", 9, "REVEAL", highest=1_500_000), "1.5 HNS"),
        (NameState("x", 9, "LOCKED"), "was claimed"),
        (NameState("x", 9, "REVOKED"), "was revoked"),
        (NameState("x", 9, "CLOSED", True), "has an owner; only they"),
    ],
)
def test_words(state: NameState, words: str) -> None:
    available, said = guidance.availability("x", state)
    assert words in said
    assert available is (state.state in ("OPENING", "BIDDING"))
    below = guidance.availability("www.x", state)
    assert not below[0]
    assert "x" in below[1]


def test_when_it_ends() -> None:
    assert (
        guidance.expires(NameState("x", 1, "CLOSED", True, stats={"blocksUntilExpire": 10}), 1000.0) == 7000
    )
    assert guidance.expires(NameState("x", 1), 1000.0) is None


@pytest.mark.parametrize(
    "table",
    [
        {"rcp": "http://h"},
        {"rpc": "ftp://h"},
        {"rpc": "http://x:key@h"},
        {"rpc": ["http://h"] * 11},
        {"rpc": 5},
        {"network": "mainnet"},
        {"safe": 1},
        {"dns": "localhost:53"},
        {"dns": "127.0.0.1:x"},
        {"nameservers": ["x"]},
        {"port": 0},
        {"timeout": 0},
        {"deadline": True},
        {"ttl": 0},
        {"api_key_file": "key"},
    ],
)
def test_wrong_settings(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        read(table)
    assert next(iter(table)) in refused.value.detail
    assert "key@" not in str(refused.value)


def test_servers() -> None:
    assert [server(text) for text in ("127.0.0.1", "127.0.0.1:5350", "::1", "[::1]:5350")] == [
        ("127.0.0.1", 53),
        ("127.0.0.1", 5350),
        ("::1", 53),
        ("::1", 5350),
    ]


def test_keys(tmp_path: Path) -> None:
    file = tmp_path / "key"
    urls = ("http://a", "http://b")
    made = Settings(rpc=urls, api_key_file=str(file))
    for text, keys in (("one\n", ("one", "one")), ("one\ntwo\n", ("one", "two"))):
        file.write_text(text)
        assert made.api_keys() == keys
    for text in ("", "1\n2\n3\n"):
        file.write_text(text)
        with pytest.raises(ConfigError):
            made.api_keys()
    file.unlink()
    with pytest.raises(ConfigError):
        made.api_keys()
    assert Settings(rpc=urls).api_keys() == ("", "")


def test_the_readme_names_every_setting() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+) \|$", README.read_text(), re.MULTILINE)
    shown = {name: json.loads(default) for name, default, _ in rows}
    made = {f.name: f.default for f in dataclasses.fields(Settings)}
    assert shown == {n: list(d) if isinstance(d, tuple) else d for n, d in made.items()}
    for name in made:
        assert re.search(rf"^    {name}\b", Settings.__doc__ or "", re.MULTILINE), name
