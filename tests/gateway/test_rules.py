"""`_redirects` and `_headers`: parsed, applied, and harmless whoever wrote them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.gateway import rules
from tests.gateway.served import Owner, Served

REDIRECTS = b"""\
\xef\xbb\xbf# a comment
/moved          /new                     \r
/found          /new               302
/see            /new#part          303
/kept           /new?own=1         307
/away           https://example.com/x  308   # of the rule
/news/:year/:id /archive/:id-in-:year    301
/old/*          /new/:splat        301
/find/:q        /search?q=:q       302
/to/:host       https://example.com/:host 302
/forced.html    /index.html        200!
/real.html      /gone.html         410
/spaced%20path  /with%20space.txt  200
/teapot         /gone.html         410
/secret/*       /gone.html         451
/lost/*         /missing.html      404
/loop           /loop              200
/app/*          /index.html        200
"""
HEADERS = b"""\
# for all
/*
  X-Site: yes
  X-Twice: first
  X-Twice: second
/docs/*
  x-site: docs
  Cache-Control: public, max-age=600
  Content-Type: text/plain
  Content-Security-Policy: default-src 'self'; script-src 'none'
/docs/:page.html
  X-Literal: no
/by/:name
  X-Page: named
/bad
  Set-Cookie: a=b
  Content-Length: 3
  Transfer-Encoding: chunked
  ETag: "forged"
  Connection: close
  Clear-Site-Data: "cookies"
  X-Accel-Redirect: /etc/
  Location: https://example.com/
"""


@pytest.fixture(scope="module")
def site(served: Served) -> Owner:
    return served.site(
        {
            "_redirects": REDIRECTS.replace(b"/docs/:page.html", b"/docs/:page"),
            "_headers": HEADERS.replace(b"/docs/:page.html\n  X-Literal: no\n", b""),
            "index.html": b"<p>index",
            "forced.html": b"<p>never seen",
            "real.html": b"<p>real",
            "gone.html": b"<p>gone",
            "with space.txt": b"spaced",
            "docs/page.html": b"<p>page",
            "by/me": b"me",
            "bad": b"bad",
        }
    )


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/moved", 301, "/new"),
        ("/moved?a=1", 301, "/new?a=1"),
        ("/found", 302, "/new"),
        ("/see?a=1", 303, "/new?a=1#part"),
        ("/kept?a=1", 307, "/new?own=1"),
        ("/away", 308, "https://example.com/x"),
        ("/news/2024/7", 301, "/archive/7-in-2024"),
        ("/old/a/b/c", 301, "/new/a/b/c"),
        ("/old", 301, "/new/"),
        ("/old/", 301, "/new/"),
        # What a visitor puts into the path stays one value of it.
        ("/find/a%26admin=1", 302, "/search?q=a%26admin%3D1"),
        ("/find/a%23b%3Fc", 302, "/search?q=a%23b%3Fc"),
        ("/find/100%25", 302, "/search?q=100%25"),
        ("/find/a%0d%0aSet-Cookie:x", 302, "/search?q=a%0D%0ASet-Cookie%3Ax"),
        ("/find/%C3%BC", 302, "/search?q=%C3%BC"),
        ("/to/@evil.example", 302, "https://example.com/%40evil.example"),
        ("/old//evil.example/x", 301, "/new/evil.example/x"),
        ("/old/%5Cevil.example", 301, "/new/%5Cevil.example"),
    ],
)
def test_redirects(site: Owner, path: str, status: int, location: str) -> None:
    answer = site.get(path)
    assert (answer.status, answer.headers["location"]) == (status, location)
    assert answer.headers["cache-control"] == "public, max-age=0, must-revalidate"
    assert site.get(path, "HEAD").headers["location"] == location


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/app/any/where", 200, b"<p>index"),
        ("/app", 200, b"<p>index"),
        ("/forced.html", 200, b"<p>index"),
        ("/real.html", 200, b"<p>real"),  # what is there comes first
        ("/teapot", 410, b"<p>gone"),
        ("/secret/x", 451, b"<p>gone"),
        ("/spaced%20path", 200, b"spaced"),
    ],
)
def test_rewrites(site: Owner, path: str, status: int, body: bytes) -> None:
    answer = site.get(path)
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers["etag"]


def test_a_rewrite_to_nothing_is_not_found(site: Owner) -> None:
    assert site.get("/lost/x").status == 404
    assert site.get("/loop").status == 404  # no rule is applied to what a rule gave
    assert site.get("/nothing").status == 404


def test_a_single_page_application(served: Served) -> None:
    site = served.site({"index.html": b"<p>app", "assets/app.js": b"1", "_redirects": b"/* /index.html 200"})
    for path in ("/", "/deep/link", "/deep/link/", "/assets/", "/x.js", "/%2e%2e%2fetc", "/" + "a" * 4000):
        expected = 404 if "%2e" in path else 200
        assert site.get(path).status == expected, path
    assert site.get("/deep/link").headers["content-type"] == "text/html; charset=utf-8"
    assert site.get("/assets/app.js").body == b"1"


def test_rules_count_only_where_a_site_has_its_origin(served: Served, site: Owner) -> None:
    head = served.node.records.head(site.site_id)
    assert head is not None
    assert served.by_cid(head.root, "/moved").headers["location"] == "/new"
    assert served.by_cid(head.root, "/docs/page.html").headers["x-site"] == "docs"
    assert served.by_path(head.root, "/moved").status == 404
    page = served.by_path(head.root, "/docs/page.html")
    assert "x-site" not in page.headers
    assert page.headers["content-security-policy"] == "sandbox"


def test_headers(site: Owner) -> None:
    page = site.get("/docs/page.html")
    assert page.headers["x-site"] == "docs"
    assert page.headers["x-twice"] == "second"
    assert page.headers["cache-control"] == "public, max-age=600"
    assert page.headers["content-type"] == "text/plain"
    assert page.headers["content-security-policy"] == "default-src 'self'; script-src 'none'"
    assert site.get("/docs/page.html", if_none_match=page.headers["etag"]).headers["x-site"] == "docs"
    assert site.get("/by/me").headers["x-page"] == "named"
    assert site.get("/").headers["x-site"] == "yes"


def test_headers_that_are_not_a_sites_to_set(site: Owner) -> None:
    answer = site.get("/bad")
    assert (answer.status, answer.body) == (200, b"bad")
    assert answer.headers["content-length"] == "3"
    assert answer.headers["etag"] == f'"{cids.to_text(cids.make(cids.RAW, b"bad"))}"'
    for name in (
        "set-cookie",
        "transfer-encoding",
        "connection",
        "clear-site-data",
        "x-accel-redirect",
        "location",
    ):
        assert name not in answer.headers


def test_what_has_no_effect_is_said_with_its_line() -> None:
    ignored = rules.Ignored()
    headers = HEADERS.replace(b"/docs/:page.html\n  X-Literal: no\n", b"")
    rules.parse_headers(headers, ignored)
    assert [one.partition(" is left out: ")[0] for one in ignored] == [
        f"_headers, line {line}: {name}"
        for line, name in enumerate(
            (
                *("Set-Cookie", "Content-Length", "Transfer-Encoding", "ETag", "Connection"),
                *("Clear-Site-Data", "X-Accel-Redirect", "Location"),
            ),
            14,
        )
    ]
    assert ignored[0].endswith("share its cookies")
    assert ignored[-2].endswith("would obey it")
    assert rules.parse_headers(headers) == rules.parse_headers(headers, rules.Ignored())

    ignored = rules.Ignored()
    rules.parse_redirects(REDIRECTS.replace(b"/docs/:page.html", b"/docs/:page"), ignored)
    assert ignored == []
    text = b"/a /b\n/c/:x /d/:y 302\n/e /f?g=1 200\n/a /z\n/* /index.html 200\n/late /b\n/:z/* /:z/:splat\n"
    rules.parse_redirects(text, ignored)
    assert [one.partition(":")[0] for one in ignored] == [f"_redirects, line {n}" for n in (2, 3, 4, 6, 7)]
    assert ":y stands for nothing" in ignored[0]
    assert "line 1 matches first" in ignored[2]
    assert "line 5 matches first" in ignored[3]
    many = rules.Ignored()
    rules.parse_redirects(b"/a /b\n" * 2000, many)
    assert len(many) == 100


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("_redirects", b"/a", b"line 1"),
        ("_redirects", b"\n\n/a /b 999", b"line 3"),
        ("_redirects", b"/a /b 301 x", b"FROM TO"),
        ("_redirects", b"/a /b abc", b"status"),
        ("_redirects", b"a /b", b"start"),
        ("_redirects", b"/a b", b"TO must"),
        ("_redirects", b"/a //evil.example 301", b"TO must"),
        ("_redirects", b"/a javascript:alert(1) 301", b"TO must"),
        ("_redirects", b"/a https://example.com 200", b"TO must"),
        ("_redirects", b"/*/a /b", b"* may stand once"),
        ("_redirects", b"/:a/:a /b", b"twice"),
        ("_redirects", b"/:splat/* /b", b"twice"),
        ("_redirects", b"/:a-:b /b", b"all of its segment"),
        ("_redirects", b"/a /b\n" * 2001, b"2000"),
        ("_redirects", b"#" * 65537, b"65536"),
        ("_redirects", b"\xff\xfe", b"UTF-8"),
        ("_redirects", b"/" + b"x" * 1001 + b" /b", b"1000 characters"),
        ("_headers", b"X: y", b"starts with a path"),
        ("_headers", b"  X: y", b"below a path"),
        ("_headers", b"/*\n  no colon", b"NAME: VALUE"),
        ("_headers", b"/*\n  B ad: x", b"NAME: VALUE"),
        ("_headers", b"/*\n  X: a\x0bb", b"characters"),
        ("_headers", "/*\n  X: ü".encode(), b"characters"),
        ("_headers", b"/*\n  X: " + b"a" * 4097, b"NAME: VALUE"),
        ("_headers", b"/*\n  X: y\n" * 2001, b"2000"),
    ],
)
def test_a_faulty_file_is_shown_to_its_owner(served: Served, name: str, text: bytes, said: bytes) -> None:
    # This node takes no such site, but others may, and this one copies what they take.
    root = served.store({name: text, "index.html": b"<p>fine"})
    served.node.blocks.pin(root, f"test:{name}")
    answer = served.by_cid(root, "/nothing")
    assert answer.status == 500
    assert said.lower() in answer.body.lower()
    assert answer.headers["cache-control"] == "no-cache"
    assert served.by_path(root, "/index.html").body == b"<p>fine"


def test_rules_that_would_take_for_ever(served: Served) -> None:
    """Adjoining placeholders and long tails are what backtracking matchers die of; the gateway goes on."""
    deep = "/".join(f":p{n}" for n in range(100))
    lines = [f"/{deep}/end{n} /x" for n in range(40)] + [f"/a{'/b' * 100}/:x/* /{n}" for n in range(100)]
    site = served.site({"_redirects": "\n".join(lines).encode(), "index.html": b"<p>alive"})
    assert site.get("/" + "a/" * 100 + "a").status == 404
    assert site.get("/" + "-" * 8000).status == 404
    assert site.get("/").body == b"<p>alive"


def test_rule_files_may_be_folders_or_links_to_nowhere(served: Served) -> None:
    site = served.site({"_redirects/x": b"1", "_headers/y": b"2", "index.html": b"<p>fine"})
    assert site.get("/").body == b"<p>fine"


# -- without a gateway

_segments = st.lists(st.text("ab:-._ü%", min_size=1, max_size=6), min_size=1, max_size=5)


@given(st.text(max_size=300))
@settings(max_examples=200)
def test_any_text_is_rules_or_bad_input(text: str) -> None:
    for parse in (rules.parse_redirects, rules.parse_headers):
        try:
            parse(text.encode("utf-8", "replace"))
        except BadInput:
            continue


@given(_segments)
def test_a_path_without_placeholders_matches_itself_alone(segments: list[str]) -> None:
    path = "/" + "/".join(part.replace(":", "c").replace("%", "p") for part in segments)
    if " " in path or "#" in path:
        return
    parsed = rules.parse_redirects(f"{path} /to 302".encode())
    assert rules.find_redirect(parsed, path) == rules.Match("/to", 302, False)
    assert rules.find_redirect(parsed, path + "x") is None
    assert rules.find_redirect(parsed, path + "/x") is None


@given(_segments)
def test_a_splat_takes_the_rest(segments: list[str]) -> None:
    rest = "/".join(segments)
    parsed = rules.parse_redirects(b"/a/* /:splat 200")
    assert rules.find_redirect(parsed, "/a/" + rest) == rules.Match("/" + rest, 200, False)


@given(st.text(min_size=1, max_size=30))
def test_a_location_holds_nothing_but_a_path(text: str) -> None:
    """Whatever a visitor writes where a placeholder is."""
    parsed = rules.parse_redirects(b"/a/* /b/:splat 301\n/:x https://example.com/:x/end 301")
    found = rules.find_redirect(parsed, "/a/" + text)
    assert found is not None
    tail = found.to.removeprefix("/b/")
    assert tail.isascii()
    assert not set(tail) & set('\r\n ?#\\@:;&="<>')
