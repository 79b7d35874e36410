"""The compact denylist format. The CIDs, hashes and what each rule must match are those published with
IPIP-383 (https://specs.ipfs.tech/compact-denylist-format/); the lists are written here."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.content import denylist
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.denied import Denied, DenyRules
from decentraspace.errors import BadInput, Blocked, BlockedByLaw, TooLarge
from decentraspace.moderation.lists import Lists

RULE1 = "bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq"
RULE2 = "QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8"
RULE3 = "Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2"
RULE4 = "QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC"
RULE5 = "QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK"
KEY = "k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf"
LEGACY = "bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e"
LEGACY_HASH = "d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7"
LEGACY_PATH_HASH = "3f8b9febd851873b3774b937cce126910699ceac56e72e64b866f8e258d09572"
LEGACY_DOMAIN_HASH = "c555c4de78827ba42527dd3dc5398db38d6c0a8c345a88e0158b2d100f317e50"
MODERN = "bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja"
MODERN_HASH = "QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM"
NOTE = "bafybeihrw75yfhdx5qsqgesdnxejtjybscwuclpusvxkuttep6h7pkgmze"
NOTE_PATH_HASH = "QmSju6XPmYLG611rmK7rEeCMFVuL6EHpqyvmEU6oGx3GR8"
BLAKE3 = "//gW813G35CnLsy7gRYYHuf63hrz71U1xoLFDVeV7actx6oX"

Load = Callable[..., DenyRules]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    with BlockStore.open(tmp_path / "blocks", quota=1 << 30) as store:
        yield store


@pytest.fixture
def load(store: BlockStore, tmp_path: Path) -> Load:
    """The rules of these lists, in this order."""

    def make(*texts: str | bytes) -> DenyRules:
        paths = []
        for number, text in enumerate(texts):
            path = tmp_path / f"list{number}.deny"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            paths.append(str(path))
        rules = DenyRules(store)
        Lists(rules, tuple(paths)).update()
        return rules

    return make


def denied(rules: DenyRules, path: str) -> Denied | None:
    """`/ipfs/CID/path` or `/ipns/NAME/path`, as people write it."""
    _, space, who, *rest = path.split("/", 3)
    below = rest[0] if rest else ""
    return rules.find(cids.parse(who), below) if space == "ipfs" else rules.find_name(who, below)


def with_codec(text: str, codec: int) -> str:
    return cids.to_text(b"\x01" + cids.varint(codec) + cids.multihash(cids.parse(text)))


# rule lines, what they deny, what they leave
CASES = {
    "a CID, by its multihash": (
        [f"/ipfs/{RULE1}"],
        [
            f"/ipfs/{RULE1}",
            "/ipfs/bafkreihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq",
            "/ipfs/QmesfgDQ3q6prBy2Kg2gKbW4MAGuWiRP2DVuGA5MZSERLo",
        ],
        [f"/ipfs/{RULE2}", f"/ipfs/{RULE1}/below"],
    ),
    "all below a CID": (
        [f"/ipfs/{RULE2}/*"],
        [
            f"/ipfs/{RULE2}",
            f"/ipfs/{RULE2}/one",
            f"/ipfs/{RULE2}/one/two",
            f"/ipfs/{with_codec(RULE2, 0x55)}/x",
        ],
        [f"/ipfs/{RULE1}"],
    ),
    "paths that start so": (
        [f"/ipfs/{RULE3}/test*"],
        [f"/ipfs/{RULE3}/test", f"/ipfs/{RULE3}/testing", f"/ipfs/{RULE3}/test/one"],
        [f"/ipfs/{RULE3}", f"/ipfs/{RULE3}/tes", f"/ipfs/{RULE3}/one/test"],
    ),
    "the same, written with a slash": (
        [f"/ipfs/{RULE4}/test/*"],
        [f"/ipfs/{RULE4}/test", f"/ipfs/{RULE4}/test/one", f"/ipfs/{RULE4}/test/one/two"],
        [f"/ipfs/{RULE4}", f"/ipfs/{RULE4}/one"],
    ),
    "a path with exceptions": (
        [
            f"/ipfs/{RULE5}/blocked*",
            f"!/ipfs/{RULE5}/blockednot",
            f"!/ipfs/{RULE5}/blocked/not",
            f"!/ipfs/{RULE5}/blocked/exceptions*",
        ],
        [f"/ipfs/{RULE5}/blocked", f"/ipfs/{RULE5}/blocked/2", f"/ipfs/{RULE5}/blockednotx"],
        [
            f"/ipfs/{RULE5}",
            f"/ipfs/{RULE5}/blockednot",
            f"/ipfs/{RULE5}/blocked/not",
            f"/ipfs/{RULE5}/blocked/exceptions",
            f"/ipfs/{RULE5}/blocked/exceptions/one",
        ],
    ),
    "a path, with or without a slash at its end": (
        [f"/ipfs/{RULE5}/a/b/", f"/ipfs/{RULE5}/c"],
        [f"/ipfs/{RULE5}/a/b", f"/ipfs/{RULE5}/a//b/", f"/ipfs/{RULE5}/c/"],
        [f"/ipfs/{RULE5}/a", f"/ipfs/{RULE5}/a/b/c", f"/ipfs/{RULE5}/C"],
    ),
    "escaped paths": (
        [f"/ipfs/{RULE5}/a%20b/%2A", f"/ipfs/{RULE5}/%C3%A4*"],
        [f"/ipfs/{RULE5}/a b/*", f"/ipfs/{RULE5}/äh"],
        [f"/ipfs/{RULE5}/a b/c", f"/ipfs/{RULE5}/a%20b/*"],
    ),
    "a domain": (
        ["/ipns/domain.example"],
        ["/ipns/domain.example", "/ipns/Domain.Example.", "/ipns/domain.example/path"],
        ["/ipns/domain2.example", "/ipns/www.domain.example"],
    ),
    "a path of a domain": (
        ["/ipns/domain2.example/path"],
        ["/ipns/domain2.example/path"],
        ["/ipns/domain2.example", "/ipns/domain2.example/path2"],
    ),
    "a key, however written": (
        [f"/ipns/{KEY}"],
        [
            f"/ipns/{KEY}",
            "/ipns/bafzaajaiaejcaotjfs57kieazxny5japcmy5p2pgv2cic77tu6ogghttvurnrufx",
            "/ipns/12D3KooWDkNqEJNmreF3NYYFK1ws7Ra2fuW6cHBTu567SPV3LdYA",
        ],
        ["/ipns/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"],
    ),
    "an exception that was taken back": (
        ["!/ipns/my.domain", "/ipns/my.domain"],
        ["/ipns/my.domain"],
        [],
    ),
    "legacy double hash of a CID": (
        [f"//{LEGACY_HASH}"],
        [f"/ipfs/{LEGACY}"],
        [f"/ipfs/{LEGACY}/path", f"/ipfs/{with_codec(LEGACY, 0x55)}"],
    ),
    "legacy double hash of a path": (
        [f"//{LEGACY_PATH_HASH}"],
        [f"/ipfs/{LEGACY}/path", f"/ipfs/{LEGACY}/path/"],
        [f"/ipfs/{LEGACY}", f"/ipfs/{LEGACY}/path2"],
    ),
    "legacy double hash of a domain": (
        [f"//{LEGACY_DOMAIN_HASH}"],
        ["/ipns/bad-domain-name.tld"],
        ["/ipns/good-domain-name.tld"],
    ),
    "double hash of a CID": (
        [f"//{MODERN_HASH}"],
        [
            f"/ipfs/{MODERN}",
            "/ipfs/QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR",
            f"/ipfs/{with_codec(MODERN, 0x71)}",
        ],
        [f"/ipfs/{MODERN}/path"],
    ),
    "double hash of a path": (
        [f"//{NOTE_PATH_HASH}"],
        [f"/ipfs/{NOTE}/my/path", "/ipfs/QmecDgNqCRirkc3Cjz9eoRBNwXGckJ9WvTdmY16HP88768/my/path/"],
        [f"/ipfs/{NOTE}", f"/ipfs/{NOTE}/my"],
    ),
    "an exception to a double hash": (
        [f"//{MODERN_HASH}", f"!//{MODERN_HASH}"],
        [],
        [f"/ipfs/{MODERN}"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_published_rules(name: str, load: Load) -> None:
    lines, yes, no = CASES[name]
    rules = load("\n".join(lines) + "\n")
    assert [path for path in yes if denied(rules, path) is None] == []
    assert [path for path in no if denied(rules, path) is not None] == []


def test_all_of_them_in_one_list(load: Load) -> None:
    """With a header, comments, empty lines and other line ends; rules do not disturb each other."""
    lines = ["version: 1", 'name: "Ours"', "hints:", "  gateway_status: 451", "---", "# a comment", ""]
    lines += [line for rules, _, _ in CASES.values() for line in rules]
    rules = load("\r\n".join(lines))
    for _, yes, _ in CASES.values():
        for path in yes:
            if MODERN not in path and "QmVTF1" not in path and with_codec(MODERN, 0x71) not in path:
                assert denied(rules, path) == Denied(451, "Ours"), path


def test_a_double_hash_is_what_the_specification_says() -> None:
    subject = denylist.content(cids.parse(NOTE))
    assert denylist.double_hash(denylist.modern(subject, "my/path")) == NOTE_PATH_HASH
    assert denylist.double_hash(denylist.modern(denylist.content(cids.parse(MODERN)), "")) == MODERN_HASH


def test_a_hexadecimal_multihash_is_a_double_hash(load: Load) -> None:
    text = denylist.modern(denylist.content(cids.parse(NOTE)), "x")
    rules = load(f"//1220{hashlib.sha256(text.encode()).hexdigest()}\n")
    assert denied(rules, f"/ipfs/{NOTE}/x")


def test_a_hash_that_may_be_either_is_taken_as_both(load: Load) -> None:
    """64 hexadecimal digits over what double hashes are of today."""
    text = denylist.modern(denylist.content(cids.parse(NOTE)), "")
    rules = load(f"//{hashlib.sha256(text.encode()).hexdigest()}\n")
    assert denied(rules, f"/ipfs/{NOTE}")


def test_later_lists_override_earlier_ones(load: Load) -> None:
    assert denied(load(f"/ipfs/{RULE1}", f"!/ipfs/{RULE1}"), f"/ipfs/{RULE1}") is None
    assert denied(load(f"!/ipfs/{RULE1}", f"/ipfs/{RULE1}"), f"/ipfs/{RULE1}")


def test_hints_say_the_status(load: Load) -> None:
    rules = load(
        f"hints:\n  gateway_status: 451\n---\n/ipfs/{RULE1}\n/ipfs/{RULE2} gateway_status:410 why:x\n"
        f"/ipfs/{RULE3} gateway_status:200\n"
    )
    statuses = [found.status for text in (RULE1, RULE2, RULE3) if (found := denied(rules, f"/ipfs/{text}"))]
    assert statuses == [451, 410, 451]
    assert isinstance(Denied(451).error("This"), BlockedByLaw)
    assert not isinstance(Denied(410).error("This"), BlockedByLaw)
    assert isinstance(Denied(410).error("This"), Blocked)


def test_a_block_is_refused_wherever_it_is_met(load: Load) -> None:
    rules = load(f"/ipfs/{RULE1}\n/ipfs/{RULE2}/*\n/ipfs/{RULE3}/x*\n//{MODERN_HASH}\n")
    assert [rules.find_block(cids.parse(t)) is not None for t in (RULE1, RULE2, RULE3, MODERN, RULE4)] == [
        True, True, False, True, False,
    ]  # fmt: skip


def test_exceptions_below_a_blocked_root_can_be_read(load: Load) -> None:
    rules = load(f"/ipfs/{RULE2}/*\n!/ipfs/{RULE2}/fine\n")
    assert denied(rules, f"/ipfs/{RULE2}")
    assert denied(rules, f"/ipfs/{RULE2}/other")
    assert denied(rules, f"/ipfs/{RULE2}/fine") is None
    assert rules.find_block(cids.parse(RULE2)) is None


BAD_LINES = [
    "",
    "x",
    "/ipfs/",
    "/ipfs/nothing",
    "/ipfs/QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf",
    f"/ipfs/{RULE1}/%zz",
    f"/ipfs/{RULE1}/%ff",
    f"/ipfs/{RULE1}/" + "a" * 8193,
    "/ipns/not a domain",
    "/ipns/-.example",
    "/path/*",
    "//",
    "//abc",
    "//" + "0" * 63,
    BLAKE3,
    f"/ipfs/{RULE1} hint",
    "!!/ipfs/" + RULE1,
    "! /ipfs/" + RULE1,
]


@pytest.mark.parametrize("line", [line for line in BAD_LINES if line])
def test_what_is_no_rule_is_told(line: str) -> None:
    with pytest.raises(BadInput):
        denylist.parse_rule(line)


def test_what_is_no_rule_does_not_disturb_the_others(load: Load, store: BlockStore) -> None:
    rules = load(
        b"\n".join(line.encode() for line in BAD_LINES) + b"\n\xff\xfe\n" + f"/ipfs/{RULE4}".encode()
    )
    [state] = rules.state.lists
    assert (state.rules, state.faults) == (1, len(BAD_LINES))
    assert state.samples[0].startswith("line 2: ")
    assert denied(rules, f"/ipfs/{RULE4}")


@pytest.mark.parametrize(
    "head",
    [
        "version: 2\n---\n",
        "name: a\nname: b\n---\n",
        "just words\n---\n",
        "  indented: x\n---\n",
        'name: "no end\n---\n',
        "hints:\n  no colon\n---\n",
    ],
)
def test_a_header_that_is_none_is_refused(head: str, load: Load) -> None:
    with pytest.raises(BadInput):
        denylist.read_header(io.BytesIO(head.encode()))
    rules = load(head + f"/ipfs/{RULE1}\n")
    assert rules.state.lists == ()


def test_headers_with_more_than_is_known() -> None:
    text = (
        "# a list\nversion: 1\nname: It's # no comment inside\nauthor: 'a@b.example' # who\n"
        "custom:\n  - one\n  - two\ndescription: >\n  several lines\n  of text\nhints:\n  a: b\n  c: 'd e'\n---\n/x"
    )
    file = io.BytesIO(text.encode())
    header, lines = denylist.read_header(file)
    assert (header.name, header.author, header.hints) == ("It's", "a@b.example", {"a": "b", "c": "d e"})
    assert lines == 14
    assert file.read() == b"/x"


def test_a_header_too_large_is_lines_of_the_list() -> None:
    """And costs no more than the bound to find out."""
    file = io.BytesIO(b"a: " + b"x" * denylist.MAX_HEADER + b"\n---\n")
    header, lines = denylist.read_header(file)
    assert (header, lines, file.tell()) == (denylist.Header(), 0, 0)
    faults = denylist.Faults()
    assert list(denylist.read_rules(file, header, 0, faults)) == []
    assert faults.count == 2


def test_a_line_too_long_refuses_the_list(load: Load) -> None:
    with pytest.raises(TooLarge):
        list(
            denylist.read_rules(
                io.BytesIO(b"#" + b"x" * denylist.MAX_LINE), denylist.Header(), 0, denylist.Faults()
            )
        )
    rules = load(f"/ipfs/{RULE1}\n#{'x' * denylist.MAX_LINE}\n")
    assert denied(rules, f"/ipfs/{RULE1}") is None


def test_many_prefixes_of_one_root_cost_a_bounded_number_of_looks(load: Load) -> None:
    rules = load("\n".join(f"/ipfs/{RULE1}/{'a' * n}*" for n in range(1, 300)))
    assert denied(rules, f"/ipfs/{RULE1}/{'a' * 3000}")
    assert denied(rules, f"/ipfs/{RULE1}/b") is None


@given(st.binary(max_size=400))
def test_no_bytes_are_more_than_a_fault(data: bytes) -> None:
    file = io.BytesIO(data)
    try:
        header, lines = denylist.read_header(file)
    except BadInput:
        return
    for number, rule in denylist.read_rules(file, header, lines, denylist.Faults()):
        assert number > lines
        assert len(rule.digest) == 20


@given(st.text(max_size=200))
def test_no_text_is_more_than_bad_input(line: str) -> None:
    for start in ("", "/ipfs/", "/ipns/", "//", f"/ipfs/{RULE1}/", "!"):
        try:
            denylist.parse_rule(start + line)
        except BadInput:
            continue


def test_order_decides_whatever_the_order(load: Load) -> None:
    """A model: the last line that matches. Single letters below one root, with and without a star."""
    rng = random.Random(7)
    for _ in range(15):
        lines = [
            f"{rng.choice(['', '!'])}/ipfs/{RULE5}/{rng.choice(['', 'a', 'b', 'ab', 'a/b'])}{rng.choice(['', '*'])}"
            for _ in range(8)
        ]
        rules = load("\n".join(lines))
        for path in ("", "a", "b", "ab", "a/b", "abc", "c"):
            last = None
            for line in lines:
                pattern = line.removeprefix("!").removeprefix(f"/ipfs/{RULE5}/")
                hit = path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern
                last = line if hit else last
            expected = last is not None and not last.startswith("!")
            assert (rules.find(cids.parse(RULE5), path) is not None) == expected, (lines, path)


@given(st.binary(min_size=1, max_size=60))
def test_base58_is_everybodys(data: bytes) -> None:
    text = base58.b58encode(data).decode()
    assert denylist.modern(b"c" + data, "") == text
    if len(text) > 1:
        assert denylist._base58(text) == data
