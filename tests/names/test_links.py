"""What is a name, and what its TXT records say: pure."""

from __future__ import annotations

import pytest

from decentraspace.names import links

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Docs.Example", "docs.example"),
        ("docs.example.", "docs.example"),
        ("_a.b-c.example", "_a.b-c.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (".".join(["a" * 63] * 3 + ["b" * 40]), ".".join(["a" * 63] * 3 + ["b" * 40])),
        ("", None),
        (".", None),
        ("example", None),
        ("docs..example", None),
        ("-docs.example", None),
        ("docs-.example", None),
        ("a b.example", None),
        ("a\0.example", None),
        ("bücher.example", None),
        ("10.0.0.1", None),
        ("printer.local", None),
        ("db.internal", None),
        ("1.0.0.127.in-addr.arpa", None),
        ("hidden.onion", None),
        ("site.localhost", None),
        ("a" * 64 + ".example", None),
        (".".join(["a" * 63] * 3 + ["b" * 55]), None),
    ],
)
def test_names_that_are_asked_for(name: str, plain: str | None) -> None:
    assert links.normal(name) == plain


@pytest.mark.parametrize(
    ("texts", "path"),
    [
        ([f"dnslink=/ipfs/{CID}"], f"/ipfs/{CID}"),
        ([f"dnslink=/ipfs/{CID}/a/b/"], f"/ipfs/{CID}/a/b/"),
        (["dnslink=/ipns/other.example"], "/ipns/other.example"),
        (["v=spf1 -all", f"dnslink= /ipfs/{CID} "], f"/ipfs/{CID}"),
        (["dnslink=/ipns/b.example", "dnslink=/ipns/a.example"], "/ipns/a.example"),
        (["dnslink=https://evil.example", "dnslink=/ipns/a.example"], "/ipns/a.example"),
        ([], None),
        (["dnslink="], None),
        (["dnslink=/ipfs/"], None),
        (["dnslink=/ipfs//a"], None),
        (["dnslink=/etc/passwd"], None),
        (["dnslink=ipfs://" + CID], None),
        (["Dnslink=/ipns/a.example"], None),
        (["dnslink=/ipfs/a b"], None),
        (["dnslink=/ipns/a\r\nb"], None),
        (["dnslink=/ipns/" + "a" * 2000], None),
    ],
)
def test_what_records_say(texts: list[str], path: str | None) -> None:
    assert links.read(texts) == path
    assert links.read(reversed(texts)) == path


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("shop.eth", "shop.eth"),
        ("shop-eth", "shop.eth"),
        ("my--shop-eth", "my-shop.eth"),
        ("www.shop.eth", "www.shop.eth"),
        ("welcome", "welcome"),
        ("www-welcome", "www.welcome"),
        ("shop.example", None),
        ("shop-example", None),
        ("eth--shop", None),
        ("shop--abcdefghijklmnop", None),
        ("", None),
    ],
)
def test_hosts_below_the_gateway_s(label: str, name: str | None) -> None:
    assert links.below(label, {"eth", "welcome"}) == name


def test_hosts_of_one_system_s_names_without_its_domain() -> None:
    for label, name in [
        ("garden", "garden.dsp"),
        ("my-garden", "my-garden.dsp"),
        ("a--b", None),
        ("a.b", None),
    ]:
        assert links.below(label, {"eth", "dsp"}, "dsp") == name
        assert links.below(label, {"eth"}, "dsp") is None
