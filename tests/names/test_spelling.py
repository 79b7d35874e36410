"""Names as people write them."""

from __future__ import annotations

import pytest

from decentraspace.errors import BadInput
from decentraspace.names.spelling import ascii_name, shown, warning


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Shop.Example.", "shop.example"),
        ("  shop.example/", "shop.example"),
        ("B\u00fccher.example", "xn--bcher-kva.example"),
        ("fa\u00df.example", "xn--fa-hia.example"),
        ("\u65e5\u672c.example", "xn--wgv71a.example"),
        ("xn--n3h.eth", "xn--n3h.eth"),
        ("welcome", "welcome"),
    ],
)
def test_one_spelling(text: str, name: str) -> None:
    assert ascii_name(text) == name


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", "a b.example", "-a.example", "a_b.example", "127.0.0.1", "[::1]", "http://a.example",
     "a.example:80",
     "x" * 64 + ".example", ".".join(["a" * 60] * 4), "xn--a-.example", "\u202eexample.com", "a\u200d.example", "\0.a"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        ascii_name(text)
    assert caught.value.problem_slug == "bad-name"


def test_what_a_name_says() -> None:
    assert shown("xn--bcher-kva.example") == "b\u00fccher.example"
    assert shown("shop.example") == "shop.example"
    assert shown("xn--a\u0062" + ".example") == "xn--ab.example"  # it says nothing that could be shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shop.example", ""),
        ("p\u0430ypal.example", "looks like paypal.example"),
        ("\u0430pple.example", "looks like apple.example"),
        ("g\u03bf\u03bfgle.example", "looks like google.example"),
        ("\u0436ab.example", "Cyrillic, Latin"),
        ("\u65e5\u672c\u30b4.example", "reads \u65e5\u672c\u30b4.example. Other names"),
        ("b\u00fccher.example", "Other names may look like it"),
    ],
)
def test_what_looks_alike_is_said(text: str, said: str) -> None:
    found = warning(ascii_name(text))
    assert said in found
    assert bool(found) == bool(said)
