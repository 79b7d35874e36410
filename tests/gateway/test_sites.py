"""Sites under their hosts and content by CID: what is served, as what, and with which headers."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from decentraspace.content import cid as cids
from decentraspace.content import dagpb, unixfs
from decentraspace.content.dagpb import Link
from tests.gateway.served import Answer, Owner, Served, until

TEXT = b"<!doctype html><p>" + b"hello " * 100
MUTABLE = "public, max-age=0, must-revalidate"
IMMUTABLE = "public, max-age=29030400, immutable"


@pytest.fixture(scope="module")
def site(served: Served) -> Owner:
    return served.site(
        {
            "index.html": TEXT,
            "about.html": b"<p>about",
            "404.html": b"<h1>lost</h1>",
            "docs/index.html": b"<p>docs",
            "files/a b & <c>.txt": b"odd",
            "files/ü.txt": "ü".encode(),
            "deep/er/still.css": b"p{}",
            "script.js": b"1",
            "module.wasm": b"\0asm",
            "picture.svg": b"<svg/>",
            "LICENSE": b"plain text",
            "page": b"<!DOCTYPE html><p>no ending",
            "binary": bytes(range(256)),
            "picture.PNG": b"\x89PNG",
            "font.woff2": b"x",
            "app.webmanifest": b"{}",
        }
    )


@pytest.fixture(scope="module")
def root(served: Served, site: Owner) -> bytes:
    head = served.node.records.head(site.site_id)
    assert head is not None
    return head.root


def file_cid(data: bytes) -> str:
    return cids.to_text(cids.make(cids.RAW, data))


# -- by name


def test_a_site_is_served_under_its_host(site: Owner) -> None:
    answer = site.get("/")
    assert (answer.status, answer.body) == (200, TEXT)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == MUTABLE
    assert answer.headers["etag"] == f'"{file_cid(TEXT)}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (204, "OPTIONS", "/", {}),
        (206, "GET", "/", {"range": "bytes=0-1"}),
        (301, "GET", "/docs", {}),
        (304, "GET", "/", {"if_none_match": "*"}),
        (404, "GET", "/nothing-here.txt", {}),
        (405, "POST", "/", {"content_length": "0"}),
        (416, "GET", "/", {"range": "bytes=99999999-"}),
    ],
)
def test_no_answer_lets_browsers_guess_types(
    site: Owner, status: int, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = site.get(path, method=method, **headers)
    assert (answer.status, answer.headers.get("x-content-type-options")) == (status, "nosniff")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/script.js", "text/javascript; charset=utf-8"),
        ("/module.wasm", "application/wasm"),
        ("/picture.svg", "image/svg+xml"),
        ("/deep/er/still.css", "text/css; charset=utf-8"),
        ("/LICENSE", "text/plain; charset=utf-8"),
        ("/page", "text/html; charset=utf-8"),
        ("/binary", "application/octet-stream"),
        ("/picture.PNG", "image/png"),
        ("/font.woff2", "font/woff2"),
        ("/app.webmanifest", "application/manifest+json"),
    ],
)
def test_content_types(site: Owner, path: str, kind: str) -> None:
    assert site.get(path).headers["content-type"] == kind


def test_the_host_may_be_written_in_any_way(served: Served, site: Owner) -> None:
    name, port = site.host.split(":")
    for host in (name.upper() + ":" + port, name, name + ".", name + ".:" + port, name.title()):
        assert served.get(host).body == TEXT, host
    with served.wire() as wire:  # RFC 9112 section 3.2.2: what the target says counts, not Host
        wire.send(f"GET http://{site.host}/about HTTP/1.1\r\nHost: other.localhost\r\n\r\n".encode())
        assert wire.answer().body == b"<p>about"
        wire.send(f"GET http://other.localhost/ HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        assert wire.answer().status == 404


def test_folders_and_endings(site: Owner) -> None:
    moved = site.get("/docs?a=b&c=%20")
    assert (moved.status, moved.headers["location"]) == (301, "/docs/?a=b&c=%20")
    assert moved.headers["cache-control"] == MUTABLE
    assert site.get("/docs/").body == b"<p>docs"
    assert site.get("//docs///").body == b"<p>docs"
    assert site.get("/about").body == b"<p>about"
    assert site.get("/about/").status == 404
    assert site.get("/about.html/").status == 404
    assert site.get("/files/%C3%BC.txt").body == "ü".encode()
    assert site.get("/files/a%20b%20%26%20%3Cc%3E.txt").body == b"odd"


def test_nobody_is_sent_to_another_host(site: Owner) -> None:
    """A path with two slashes in front would be one."""
    for path in ("//docs", "///docs", "/%2Fdocs", "/docs%2f..", "/\\docs"):
        answer = site.get(path)
        assert answer.status in (301, 404), path
        assert not answer.headers.get("location", "/x").startswith(("//", "/\\", "http")), path


def test_listing(served: Served, site: Owner) -> None:
    answer = site.get("/files/")
    text = answer.body.decode()
    assert answer.status == 200
    assert '<a href="/files/a%20b%20%26%20%3Cc%3E.txt">a b &amp; &lt;c&gt;.txt</a>' in text
    assert '<a href="/files/..">' in text
    assert answer.headers["etag"].startswith('"DirIndex-')
    assert site.get("/files/", if_none_match=answer.headers["etag"]).status == 304
    top = served.site({"one": b"1", "two/three": b"3"})
    assert b"../" not in top.get("/").body


def test_a_large_listing_is_cut(served: Served) -> None:
    crowd = served.site({f"{number:05}": b"" for number in range(10_050)})
    text = crowd.get("/").body.decode()
    assert text.count("<tr>") == 10_001
    assert "More than 10000 entries" in text


def test_no_listing_where_the_setting_says_so(serve) -> None:  # type: ignore[no-untyped-def]
    closed = serve(gateway={"autoindex": False}).site({"files/one": b"1", "sub/index.html": b"i"})
    for path in ("/", "/files", "/files/"):
        assert closed.get(path).status == 404
    assert closed.get("/files/one").body == b"1"
    assert closed.get("/sub").status == 301


def test_not_found(served: Served, site: Owner) -> None:
    own = site.get("/nothing/here")
    assert (own.status, own.body) == (404, b"<h1>lost</h1>")
    assert own.headers["content-type"] == "text/html; charset=utf-8"
    assert site.get("/nothing", if_none_match="*").status == 404
    plain = served.site({"x": b""}).get("/nothing")
    assert plain.status == 404
    assert plain.headers["cache-control"] == "no-cache"
    for host in (
        "nobody--aaaaaaaaaaaaaaaa.localhost",
        "localhost",
        "example.com",
        "",
        "a" * 300 + ".localhost",
    ):
        answer = served.get(host)
        assert answer.status in (400, 404), host
        assert answer.headers["cache-control"] == "no-store"


def test_a_large_404_page_is_still_one(served: Served) -> None:
    site = served.site({"404.html": b"<p>" + b"lost " * 400_000})
    answer = site.get("/nothing")
    assert answer.status == 404
    assert len(answer.body) == 2_000_003


def test_methods(site: Owner) -> None:
    for path in ("/", "/nothing", "/docs", "/files/"):
        full, head = site.get(path), site.get(path, "HEAD")
        assert head.status == full.status
        assert {n: v for n, v in head.headers.items() if n != "date"} == {
            n: v for n, v in full.headers.items() if n != "date"
        }
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"):
        refused = site.get("/", method)
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert site.get("/", "OPTIONS").status == 204


# -- by CID


def test_a_version_has_an_address_of_its_own(served: Served) -> None:
    site = served.site({"index.html": b"one"})
    first = served.node.hosting.urls(served.node.records.head(site.site_id))
    second = site.deploy({"index.html": b"two"}).urls
    assert first["site"] == second["site"] == f"http://{site.host}/"
    assert site.get("/").body == b"two"
    for urls, body in ((first, b"one"), (second, b"two")):
        host = urls["version"].removeprefix("http://").rstrip("/")
        answer = served.get(host)
        assert (answer.body, answer.headers["cache-control"]) == (body, IMMUTABLE)
        path = urls["path"].removeprefix(f"http://127.0.0.1:{served.port}")
        assert served.get(f"127.0.0.1:{served.port}", path).body == body


def test_a_path_leads_to_an_origin_of_its_own(served: Served, root: bytes) -> None:
    text = cids.to_text(root)
    host = f"localhost:{served.port}"
    for form in (
        text,
        text.upper().replace("B", "B", 1),
        cids.to_text(root, "base36"),
        cids.to_text(root, "base58btc"),
    ):
        moved = served.get(host, f"/ipfs/{form}/docs/a%20b?x=%20y")
        assert moved.status == 301
        assert moved.headers["location"] == f"http://{text}.ipfs.{host}/docs/a%20b?x=%20y"
    assert served.get(host, f"/ipfs/{text}").headers["location"] == f"http://{text}.ipfs.{host}/"
    # Programs that verify what they get stay where they are.
    assert served.get(host, f"/ipfs/{text}?format=raw").status == 200
    assert served.get(host, f"/ipfs/{text}", accept="application/vnd.ipld.car").status == 200


def test_content_in_paths_has_no_origin(served: Served, root: bytes) -> None:
    """All owners' content would share it."""
    page = served.by_path(root, "/docs/")
    assert page.body == b"<p>docs"
    assert page.headers["content-security-policy"] == "sandbox"
    assert page.headers["cache-control"] == IMMUTABLE
    moved = served.by_path(root, "/docs")
    assert moved.headers["location"] == f"/ipfs/{cids.to_text(root)}/docs/"
    assert served.by_path(root, "/about").status == 404  # forgiving is for sites
    own = served.by_cid(root, "/docs/")
    assert own.body == b"<p>docs"
    assert "content-security-policy" not in own.headers


def test_a_file_by_its_cid(served: Served, site: Owner) -> None:
    cid = cids.make(cids.RAW, TEXT)
    assert served.by_cid(cid).body == TEXT
    assert served.by_path(cid, "").body == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "bafy",
        "Qm" + "1" * 44,
        "b" + "a" * 500,
        "bafk-----",
        "%00",
        "f00",
        "z!!!",
        "bafkqaaa%20",
        "../x",
    ],
)
def test_what_is_no_cid(served: Served, text: str) -> None:
    answer = served.get("127.0.0.1", f"/ipfs/{text}/x")
    assert answer.status == 400, answer.body
    if text.isalnum():
        assert served.get(f"{text}.ipfs.localhost").status == 400


# -- what is served at all


def test_only_what_a_record_names_is_served(served: Served) -> None:
    """Blocks may be here because someone uploads them, or because a page needed them: that is no reason."""
    loose = served.store({"index.html": b"uploaded, never deployed"})
    for answer in (served.by_cid(loose), served.by_path(loose), served.by_path(loose, "?format=car")):
        assert answer.status == 404
        assert b"nothing else" in answer.body
        assert b"uploaded" not in answer.body
    site = served.site(loose)
    assert site.get("/").body == b"uploaded, never deployed"
    assert served.by_cid(loose).status == 200


def test_a_cid_that_carries_its_content_opens_no_door(served: Served) -> None:
    """Anybody can make up a folder that links to a block, in a CID."""
    loose = served.store({"index.html": b"not for you"})
    folder = dagpb.encode([Link(loose, "x", 0)], unixfs.DIRECTORY)
    door = b"\x01\x70\x00" + bytes([len(folder)]) + folder
    fetches = len(served.fetches)
    for path in ("/", "/x/", "/x/index.html", "/?format=car"):
        assert served.by_path(door, path).status == 404
    phish = b"\x01\x55\x00" + bytes([11]) + b"<h1>log in!"
    assert served.by_path(phish).status == 404
    assert served.by_cid(phish).status == 404
    assert len(served.fetches) == fetches
    # The one that clients look for gateways with.
    probe = served.get("127.0.0.1", "/ipfs/bafkqaaa?format=raw")
    assert (probe.status, probe.body) == (200, b"")


def test_an_open_relay_serves_what_others_have(served: Served, serve, site: Owner, root: bytes) -> None:  # type: ignore[no-untyped-def]
    from decentraspace.network.fetch import Provider

    others = [Provider(f"http://127.0.0.1:{served.port}", "peer")]
    relay = serve(providers=others, gateway={"open_relay": True})
    closed = serve(providers=others)
    assert relay.by_cid(root).body == TEXT
    assert relay.by_cid(root, "/files/%C3%BC.txt").body == "ü".encode()
    assert closed.by_cid(root).status == 404
    assert closed.fetches == []
    loose = relay.store({"index.html": b"here by chance"})
    assert relay.by_cid(loose).body == b"here by chance"


def test_what_no_node_has_is_not_in_time(serve) -> None:  # type: ignore[no-untyped-def]
    relay = serve(gateway={"open_relay": True, "fetch_timeout": 5.0})
    missing = cids.make(cids.RAW, b"nowhere")
    for answer in (
        relay.by_cid(missing),
        relay.by_path(missing, "?format=raw"),
        relay.by_path(missing, "?format=car"),
    ):
        assert answer.status == 504
        assert answer.headers["cache-control"] == "no-store"


def test_damaged_content_is_never_sent(serve) -> None:  # type: ignore[no-untyped-def]
    served = serve()
    body = b"whole " * 40_000
    site = served.site({"index.html": body, "fine": b"fine"})
    store = served.node.blocks
    leaf = cids.make(cids.RAW, body)
    with store.write() as txn:
        assert txn.put(cids.multihash(leaf), b"broken" * 40_000, db=store.db["blocks"])
    answer = site.get("/")
    assert answer.status in (502, 504)
    assert b"broken" not in answer.body
    assert len(served.fetches) < 5  # it is not asked for again and again
    assert site.get("/fine").body == b"fine"


def test_a_revoked_site_vanishes(served: Served) -> None:
    site = served.site({"index.html": b"to be revoked", "a": b"more"})
    head = served.node.records.head(site.site_id)
    assert head is not None
    assert site.get("/").status == served.by_cid(head.root).status == 200
    site.revoke()
    assert site.get("/").status == 404
    until(lambda: served.by_cid(head.root).status == 404)
    assert served.by_path(head.root, "/a").status == 404
    assert served.by_path(head.root, "?format=car").status == 404


def test_an_unknown_host_is_looked_up_in_the_records(served: Served) -> None:
    """The index may be behind: it is written after the record."""
    site = served.site({"index.html": b"known"})
    served.node.hosting.index.delete(site.host.split(".")[0])
    assert site.get("/").body == b"known"


def test_paused_and_blocked_sites(served: Served) -> None:
    from decentraspace.content import siteindex

    site = served.site({"index.html": b"flagged"})
    label = site.host.split(".")[0]
    index = served.node.hosting.index
    entry = index.get(label)
    assert entry is not None
    for flag, status in ((siteindex.FLAG_PAUSED, 402), (siteindex.FLAG_BLOCKED, 451), (0, 200)):

        def shown(flag: int = flag) -> Answer:
            index.put(label, entry._replace(flags=flag))  # again: the node, looking after its sites, lifts it
            return site.get("/")

        answer = until(lambda shown=shown, status=status: (found := shown()).status == status and found)
        assert (b"flagged" in answer.body) == (status == 200)


def test_what_only_paused_sites_show_is_paid_for_by_cid_too(served: Served) -> None:
    """Otherwise a pause would be gone around by whoever knows the CID. Other nodes still get its blocks."""
    from decentraspace.content import siteindex

    root = served.store({"index.html": b"by whichever name"})
    site, other = served.site(root), served.site(root)
    index = served.node.hosting.index

    def flag(owner: Owner, flags: int) -> None:
        label = owner.host.split(".")[0]
        entry = index.get(label)
        assert entry is not None
        index.put(label, entry._replace(flags=flags))

    def asked(flags: tuple[int, int], *answers: Callable[[], Answer]) -> list[int]:
        flag(site, flags[0])  # again: the node, looking after its sites, lifts it
        flag(other, flags[1])
        return [answer().status for answer in answers]

    paused = siteindex.FLAG_PAUSED
    shown = (
        lambda: served.by_cid(root, "/"),
        lambda: served.by_cid(root, "/index.html"),
        lambda: served.by_path(root, "/?format=tar"),
    )
    blocks = (
        lambda: served.by_path(root, "/?format=raw"),
        lambda: served.by_path(root, "/", accept="application/vnd.ipld.car"),
    )
    assert asked((0, 0), *shown, *blocks) == [200] * 5
    until(lambda: asked((paused, paused), *shown) == [402] * 3)
    assert asked((paused, paused), *blocks) == [200] * 2
    until(lambda: asked((paused, 0), *shown) == [200] * 3)  # the other pays for what it shows
    until(lambda: asked((paused, paused), *shown) == [402] * 3)
    other.deploy({"index.html": b"something else"})
    flag(site, paused)
    until(lambda: asked((paused, 0), *shown) == [402] * 3)
    until(lambda: asked((0, 0), *shown) == [200] * 3)


# -- for programs that verify


def test_raw_blocks_and_cars(served: Served, site: Owner, root: bytes) -> None:
    raw = served.by_path(root, "/index.html?format=raw")
    assert raw.body == TEXT
    assert raw.headers["content-type"] == "application/vnd.ipld.raw"
    assert raw.headers["vary"] == "Accept"
    assert served.by_path(root, "/index.html?format=raw", if_none_match=raw.headers["etag"]).status == 304
    car = served.by_path(root, "/docs?format=car&dag-scope=entity")
    assert car.headers["content-type"] == "application/vnd.ipld.car; version=1; order=dfs; dups=n"
    assert car.status == 200
    by_name = site.get("/index.html", accept="application/vnd.ipld.raw")
    assert (by_name.body, by_name.headers["cache-control"]) == (TEXT, MUTABLE)
    for query in ("format=car&dag-scope=some", "format=car&entity-bytes=x", "format=raw&" + "a=1&" * 300):
        assert served.by_path(root, "/?" + query).status == 400
    assert served.by_path(root, "/?format=car", accept="application/vnd.ipld.car; version=2").status == 400


def test_a_sites_own_queries_are_its_own(site: Owner) -> None:
    many = "&".join(f"field{n}=%ff%00" for n in range(500))
    assert site.get("/?" + many).body == TEXT
    assert site.get("/?reformat=1&=&&&x;y").body == TEXT
    assert site.get("/?q=" + base64.b64encode(b"x" * 3000).decode()).body == TEXT
