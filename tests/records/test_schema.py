from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.records import cbor, schema
from decentraspace.records.cbor import Link
from decentraspace.records.schema import Body

CID = cids.make(cids.RAW, b"x")
RECORD = cids.make(cids.DAG_CBOR, b"x")
SITE = schema.site_id(bytes(20), "site")
TOO_MANY = 2**53

VALID: dict[str, dict[str, Any]] = {
    "site": {
        "owner": bytes(20),
        "label": "my-site",
        "seq": 2,
        "root": Link(CID),
        "prev": Link(RECORD),
        "channel": "production",
        "kind": "static",
        "size": 4,
        "has_headers": False,
        "has_redirects": True,
        "controllers": [bytes(20)],
        "created": 1,
    },
    "revocation": {"owner": bytes(20), "key": bytes(32), "site": SITE, "after": 1, "created": 1},
    "domain": {
        "owner": bytes(20),
        "name": "shop.example",
        "seq": 1,
        "founder": bytes(20),
        "label": "my-site",
        "created": 1,
    },
    "node": {
        "http": "http://127.0.0.1:8090",
        "gateway": "https://example.net/a",
        "addrs": ["/ip4/127.0.0.1/tcp/4001"],
        "operator": bytes(20),
        "capacity": 1,
        "prices": {"storage": 1},
        "name": "Zoë's node",
        "seq": 1,
        "created": 1,
    },
    "receipt": {
        "root": Link(CID),
        "size": 1,
        "site": SITE,
        "channel": "production",
        "seq": 1,
        "holders": [bytes(32)],
        "created": 1,
        "held": True,
    },
}
FIELDS = [(kind, name) for kind, values in VALID.items() for name in values]


def read(of: str, /, **changes: Any) -> Body:
    """The body of this kind as it comes out of a record with these fields."""
    return schema.from_map(of, cbor.decode(cbor.encode({**VALID[of], **changes})))


@pytest.mark.parametrize("kind", VALID)
def test_a_body_is_written_as_it_was_read(kind: str) -> None:
    body = read(kind)
    assert cbor.encode(schema.to_map(body)) == cbor.encode(VALID[kind])
    assert schema.from_map(kind, cbor.decode(cbor.encode(schema.to_map(body)))) == body


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_field_is_needed_and_no_other_is_taken(kind: str, name: str) -> None:
    with pytest.raises(BadInput):
        schema.from_map(kind, {k: v for k, v in VALID[kind].items() if k != name})
    with pytest.raises(BadInput):
        read(kind, **{name + "_": VALID[kind][name]})


@pytest.mark.parametrize("replicas", [1, 3, schema.MAX_REPLICAS])
def test_a_version_may_say_how_many_nodes_should_hold_it(replicas: int) -> None:
    body = read("site", replicas=replicas)
    assert isinstance(body, schema.SiteManifest)
    assert body.replicas == replicas
    assert cbor.encode(schema.to_map(body)) == cbor.encode({**VALID["site"], "replicas": replicas})
    assert "replicas" not in schema.to_map(read("site")), "what versions of before are written as"


@pytest.mark.parametrize("proof", ["x", "AZ09+/=", "~" * 500])
def test_a_link_may_carry_a_proof(proof: str) -> None:
    body = read("domain", proof=proof)
    assert isinstance(body, schema.DomainLink)
    assert body.proof == proof
    assert cbor.encode(schema.to_map(body)) == cbor.encode({**VALID["domain"], "proof": proof})
    assert "proof" not in schema.to_map(read("domain"))


@pytest.mark.parametrize("proof", ["", "a b", "é", "\n", "x" * 501, b"x", None])
def test_no_other_proof_is_taken(proof: Any) -> None:
    with pytest.raises(BadInput):
        read("domain", proof=proof)


@pytest.mark.parametrize("replicas", [0, -1, schema.MAX_REPLICAS + 1, None, True, "3", b"\3", [3]])
def test_no_other_number_of_nodes_is_taken(replicas: Any) -> None:
    with pytest.raises(BadInput):
        read("site", replicas=replicas)


@pytest.mark.parametrize("kind", VALID)
@pytest.mark.parametrize("values", [None, [], b"", "", 1, {}, True])
def test_a_body_is_a_map_with_its_fields(kind: str, values: Any) -> None:
    with pytest.raises(BadInput):
        schema.from_map(kind, values)


@pytest.mark.parametrize("kind", ["", "Site", "site ", "sites", None, 1, b"site", ["site"], {}])
def test_other_kinds_are_refused(kind: Any) -> None:
    with pytest.raises(BadInput):
        schema.from_map(kind, VALID["site"])


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2**40 + 1, 2**53, 2**64 - 1, -(2**64), "", "a", "a" * 400, "1", "\0", "\u202e",
    b"", b"a", bytes(20), bytes(32), bytes(400), Link(CID), Link(RECORD), [], [None], [[]], [b"a"], ["a"],
    ["a"] * 40, [bytes(20)] * 20, [bytes(32)] * 65, [Link(CID)], {}, {"a": 1}, {"a": None}, {"": -1},
    {str(i): 1 for i in range(40)}, [0] * 60,
]  # fmt: skip


def alike(value: Any, model: Any) -> bool:
    """Of the type that code which reads the body counts on."""
    if model is None or isinstance(model, bool):
        return type(value) is type(model)
    if isinstance(model, tuple):
        return isinstance(value, tuple) and all(alike(item, model[0]) for item in value)
    if isinstance(model, Mapping):
        return isinstance(value, dict) and all(type(k) is str and type(v) is int for k, v in value.items())
    return value is None or type(value) is type(model)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_field_of_another_type_is_refused(kind: str, name: str) -> None:
    model = getattr(read(kind), name)
    for odd in ODD:
        try:
            body = read(kind, **{name: odd})
        except BadInput:
            continue
        assert alike(getattr(body, name), model), odd
        assert cbor.encode(schema.to_map(body)) == cbor.encode({**VALID[kind], name: odd})
        assert odd is not None or (kind, name) == ("node", "operator")


def bounds(least: int, most: int) -> tuple[list[Any], list[Any]]:
    return [least, most], [least - 1, most + 1, 2**64 - 1, -(2**64)]


GOOD_LABELS = ["a", "0", "a1-b2", "a-b-c", "x" * 45, "xn-a"]
BAD_LABELS = [
    "",
    "-",
    "-a",
    "a-",
    "a--b",
    "xn--a",
    "A",
    "a.b",
    "a_b",
    "a b",
    "a\n",
    "\na",
    "ä",
    "٣",
    "x" * 46,
]
GOOD_URLS = [
    "", "http://a", "https://a.b:1/c/d%20e~", "http://127.0.0.1:8090", "http://[::1]:65535/", "https://" + "a" * 192,
    "http://[2001:db8::1.2.3.4]", "http://xn--bcher-kva.example",
]  # fmt: skip
BAD_URLS = [
    "a", "http:", "http://", "http:///a", "ftp://a", "HTTP://a", "http://a:0", "http://a:65536", "http://a:",
    "http://a:08", "http://a b", "http://a\n", "http://a?b", "http://a#b", "http://u@a", "http://u:p@a",
    "javascript:alert(1)", "http://a/<", 'http://a/"', "http://-a", "http://a-", "http://bücher", "http://a\\b",
    "http://[::1", "http://[]", "http://[::1]a", "https://" + "a" * 193, "//a", " http://a",
]  # fmt: skip
BAD_TEXTS = ["\0", "a\nb", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff", "\ufffe"]

LIMITS: list[tuple[str, str, tuple[list[Any], list[Any]]]] = [
    ("site", "owner", ([bytes(20)], [bytes(19), bytes(21), "a" * 20])),
    ("site", "label", (GOOD_LABELS, BAD_LABELS)),
    ("site", "seq", bounds(2, schema.MAX_SEQ)),
    ("site", "root", ([Link(CID), Link(RECORD), Link(cids.make(cids.DAG_PB, b""))], [CID, "a"])),
    ("site", "prev", ([Link(RECORD)], [RECORD, Link(CID), Link(b"\x01\x71\x00\x01a"), None])),
    ("site", "channel", (["production", "a", "9-9", "x" * 32], ["", "-a", "a-", "A", "a.b", "x" * 33, "a\n"])),
    ("site", "kind", (["static", "dynamic"], ["", "Static", "other", ["static"]])),
    ("site", "size", bounds(0, schema.MAX_SEQ)),
    ("site", "has_headers", ([True, False], [0, 1, None, "true"])),
    ("site", "has_redirects", ([True, False], [0, 1, None, "true"])),
    ("site", "controllers", ([[], [bytes(20)] * 16], [[bytes(20)] * 17, [bytes(19)], [None], "", {}])),
    ("site", "created", bounds(1, schema.MAX_TIME)),
    ("revocation", "owner", ([bytes(20)], [bytes(19), bytes(21)])),
    ("revocation", "key", ([bytes(32)], [bytes(31), bytes(33), bytes(20)])),
    ("revocation", "site", ([SITE], ["", "a" * 15, "a" * 17, "A" * 16, "1" * 16, "a" * 15 + "\n", None])),
    ("revocation", "after", bounds(0, schema.MAX_SEQ)),
    ("revocation", "created", bounds(1, schema.MAX_TIME)),
    ("domain", "owner", ([bytes(20)], [bytes(19), bytes(21), "a" * 20, None])),
    ("domain", "name", (["a", "shop.example", "x" * 63 + ".eth"], ["", "A", "a.", "10.0.0.1", "a" * 64, "ä", None])),
    ("domain", "founder", ([bytes(20)], [bytes(19), bytes(21), "a" * 20, None])),
    ("domain", "label", (GOOD_LABELS, BAD_LABELS)),
    ("domain", "seq", bounds(1, schema.MAX_SEQ)),
    ("domain", "created", bounds(1, schema.MAX_TIME)),
    ("node", "http", (GOOD_URLS, BAD_URLS)),
    ("node", "gateway", (GOOD_URLS, BAD_URLS)),
    ("node", "addrs", ([[], ["/ip4/1.2.3.4/tcp/1"] * 16, ["x" * 200]], [["a"] * 17, ["x" * 201], [1], "a"])),
    ("node", "operator", ([bytes(20), None], [bytes(19), bytes(21), "a" * 20])),
    ("node", "capacity", bounds(0, schema.MAX_SEQ)),
    (
        "node",
        "prices",
        (
            [{}, {"x" * 32: 0}, {"a": schema.MAX_SEQ}, {str(i): 1 for i in range(32)}],
            [{"x" * 33: 1}, {"a": -1}, {"a": TOO_MANY}, {"a": True}, {str(i): 1 for i in range(33)}, {"\n": 1}],
        ),
    ),
    ("node", "name", (["", "x" * 64, "Zoë 水", "🙂"], ["x" * 65, *BAD_TEXTS])),
    ("node", "addrs", ([], [[text] for text in BAD_TEXTS])),
    ("node", "seq", bounds(1, schema.MAX_SEQ)),
    ("node", "created", bounds(1, schema.MAX_TIME)),
    ("receipt", "root", ([Link(CID), Link(RECORD)], [CID, None])),
    ("receipt", "size", bounds(0, schema.MAX_SEQ)),
    ("receipt", "site", ([SITE], ["", "a" * 15, "a" * 17, "A" * 16, None])),
    ("receipt", "channel", (["production", "pr-1"], ["", "A", "-a", None])),
    ("receipt", "held", ([True, False], [0, 1, None, "true"])),
    ("receipt", "seq", bounds(1, schema.MAX_SEQ)),
    ("receipt", "holders", ([[], [bytes(32)] * 64], [[bytes(32)] * 65, [bytes(31)], [None], "", {}, b""])),
    ("receipt", "created", bounds(1, schema.MAX_TIME)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "good"), [(kind, name, v) for kind, name, (good, _) in LIMITS for v in good]
)
def test_values_at_a_limit_are_taken(kind: str, name: str, good: Any) -> None:
    body = read(kind, **{name: good})
    expected = tuple(good) if isinstance(good, list) else good
    assert getattr(body, name) == expected


@pytest.mark.parametrize(
    ("kind", "name", "bad"), [(kind, name, v) for kind, name, (_, bad) in LIMITS for v in bad]
)
def test_values_beyond_a_limit_are_refused(kind: str, name: str, bad: Any) -> None:
    with pytest.raises(BadInput):
        read(kind, **{name: bad})


def test_every_field_has_its_limits_tested() -> None:
    assert {(kind, name) for kind, name, _ in LIMITS} == set(FIELDS)
    assert set(VALID) == set(schema.KINDS)


def test_only_the_first_version_names_none_before_it() -> None:
    assert read("site", seq=1, prev=None)
    for seq, prev in ((1, Link(RECORD)), (2, None)):
        with pytest.raises(BadInput, match="first version"):
            read("site", seq=seq, prev=prev)


def test_a_revocation_of_all_sites_has_no_number() -> None:
    assert read("revocation", site=None, after=0)
    with pytest.raises(BadInput, match="one site"):
        read("revocation", site=None, after=1)


@given(st.binary(min_size=20, max_size=20), st.from_regex(r"[a-z0-9]{1,45}", fullmatch=True))
def test_a_site_id_is_80_bits_of_a_hash(owner: bytes, label: str) -> None:
    digest = hashlib.sha256(owner + label.encode()).digest()
    found = schema.site_id(owner, label)
    assert base64.b32decode(found.upper()) == digest[:10]
    assert len(f"{label}--{found}") <= 63


@given(st.text(max_size=60) | st.text("ab-09", max_size=60))
def test_a_label_is_one_part_of_a_host_name(label: str) -> None:
    fits = (
        0 < len(label) <= 45
        and set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        and label[0] != "-"
        and label[-1] != "-"
        and "--" not in label
    )
    try:
        assert schema.check_label(label) == label
        taken = True
    except BadInput:
        taken = False
    assert taken == fits


_names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
_labels = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+){0,8}", fullmatch=True).filter(lambda text: len(text) <= 45)


@given(_names, _names, _labels)
def test_every_channel_has_a_host_of_its_own(one: str, other: str, label: str) -> None:
    site = schema.site_id(bytes(20), schema.check_label(label))
    hosts = {schema.host_label(label, channel, site) for channel in (one, other, schema.PRODUCTION)}
    assert len(hosts) == len({one, other, schema.PRODUCTION})
    for host in hosts:
        assert len(host) <= 63
        assert host.endswith("--" + site)


def test_hosts_that_look_alike_are_not() -> None:
    site = schema.site_id(bytes(20), "b")
    assert schema.host_label("b", "a", site) == f"a--b--{site}"
    assert schema.host_label("b", "a--b", site) == f"a--b--b--{site}"
    for long, cut in (("abcd-" * 8 + "e", "abcd-abcd-a"), ("abcdefghij-" * 3 + "e", "abcdefghij")):
        site = schema.site_id(bytes(20), long)
        assert schema.host_label(long, "x" * 32, site) == f"{'x' * 32}--{cut}--{site}"
