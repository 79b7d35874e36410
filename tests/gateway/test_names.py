"""Names of keys (IPNS) and of DNS (DNSLink): in paths, in hosts, and as signed records."""

from __future__ import annotations

import time
from collections.abc import Iterator

import base58
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decentraspace.content import cid as cids
from decentraspace.content import ipns
from tests.gateway.served import Answer, Served

FIRST, SECOND = b"<p>first", b"<p>second"
LINKED = "docs-site.example.org"
OVER_KEY = "over.example.org"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NAME = ipns.create(KEY, "/ipfs/bafkqaaa", until=4e9, sequence=0)[0]
TEXT = ipns.name_text(NAME)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    links = [
        f"{LINKED}=/ipfs/{cids.to_text(cids.make(cids.RAW, FIRST))}",
        f"{OVER_KEY}=/ipns/{TEXT}",
        f"deeper.example.org=/ipns/{OVER_KEY}/sub",
        "one.example.org=/ipns/two.example.org",
        "two.example.org=/ipns/one.example.org",
    ]
    gateway = {"open_relay": True, "fetch_timeout": 1.0, "dnslink": links}
    with Served(tmp_path_factory.mktemp("names"), gateway=gateway).serving() as running:
        running.node.blocks.put_many([(cids.make(cids.RAW, d), d) for d in (FIRST, SECOND)])
        yield running


@pytest.fixture(scope="module")
def root(relay: Served) -> bytes:
    """What KEY's name stands for."""
    root = relay.store(
        {"index.html": FIRST, "sub/page.html": SECOND, "_redirects": b"/old /sub/page.html 302"}
    )
    publish(relay, f"/ipfs/{cids.to_text(root)}", 1)
    return root


def publish(served: Served, value: str, sequence: int, key: Ed25519PrivateKey = KEY, ttl: int = 90) -> str:
    name, record = ipns.create(key, value, until=time.time() + 3600, sequence=sequence, ttl=ttl)
    ipns.NameStore(served.node.blocks).put(name, record)
    return ipns.name_text(name)


def by_path(served: Served, path: str, **headers: str) -> Answer:
    return served.get(f"127.0.0.1:{served.port}", path, **headers)


def test_a_key_in_a_path(relay: Served, root: bytes) -> None:
    answer = by_path(relay, f"/ipns/{TEXT}/sub/page.html")
    assert (answer.status, answer.body) == (200, SECOND)
    assert answer.headers["cache-control"] == "public, max-age=90"
    assert answer.headers["x-ipfs-path"] == f"/ipns/{TEXT}/sub/page.html"
    assert answer.headers["x-ipfs-roots"].startswith(cids.to_text(root))
    assert answer.headers["content-security-policy"] == "sandbox"
    assert by_path(relay, f"/ipns/{TEXT}/sub").headers["location"] == f"/ipns/{TEXT}/sub/"
    raw = by_path(relay, f"/ipns/{TEXT}?format=raw")
    assert raw.body == relay.node.blocks.get(root)
    assert "immutable" not in raw.headers["cache-control"]


def test_other_spellings_lead_to_the_one(relay: Served, root: bytes) -> None:
    peer = base58.b58encode(cids.multihash(NAME)).decode()
    for text in (peer, cids.to_text(NAME), cids.to_text(b"\x01\x70" + cids.multihash(NAME))):
        moved = by_path(relay, f"/ipns/{text}/a%20b?x=1")
        assert (moved.status, moved.headers["location"]) == (302, f"/ipns/{TEXT}/a%20b?x=1")
    host = f"localhost:{relay.port}"
    for text in (TEXT, peer):
        moved = relay.get(host, f"/ipns/{text}/sub/")
        assert (moved.status, moved.headers["location"]) == (301, f"http://{TEXT}.ipns.{host}/sub/")
    moved = relay.get(f"{cids.to_text(NAME, 'base36').replace('k', 'K', 1)}.ipns.{host}", "/")
    assert moved.status == 200  # host names have no case
    in_dag_pb = cids.to_text(b"\x01\x70" + cids.multihash(NAME), "base36")
    assert relay.get(f"{in_dag_pb}.ipns.{host}", "/x").headers["location"] == f"http://{TEXT}.ipns.{host}/x"


def test_a_key_as_a_host(relay: Served, root: bytes) -> None:
    host = f"{TEXT}.ipns.localhost:{relay.port}"
    assert relay.get(host).body == FIRST
    assert "content-security-policy" not in relay.get(host).headers
    assert relay.get(host, "/old").headers["location"] == "/sub/page.html"


def test_a_new_record_shows_at_once(relay: Served) -> None:
    key = Ed25519PrivateKey.generate()
    for sequence, data in enumerate((FIRST, SECOND, FIRST)):
        name = publish(relay, f"/ipfs/{cids.to_text(cids.make(cids.RAW, data))}", sequence, key)
        assert by_path(relay, f"/ipns/{name}").body == data


def test_a_record_for_those_who_verify(relay: Served, root: bytes) -> None:
    for path, accept in (
        (f"/ipns/{TEXT}?format=ipns-record", "*/*"),
        (f"/ipns/{TEXT}", "application/vnd.ipfs.ipns-record"),
    ):
        answer = by_path(relay, path, accept=accept)
        assert answer.headers["content-type"] == "application/vnd.ipfs.ipns-record"
        assert answer.headers["cache-control"] == "public, max-age=90"
        assert ipns.verify(NAME, answer.body).value == f"/ipfs/{cids.to_text(root)}"
        assert by_path(relay, path, accept=accept, if_none_match=answer.headers["etag"]).status == 304
    assert by_path(relay, f"/ipns/{LINKED}?format=ipns-record").status == 400


def test_names_without_a_record(relay: Served) -> None:
    name = ipns.name_text(ipns.create(Ed25519PrivateKey.generate(), "/x", until=4e9, sequence=0)[0])
    assert by_path(relay, f"/ipns/{name}").status == 502
    assert by_path(relay, f"/ipns/{name}?format=ipns-record").status == 502
    for value in ("", "/", "nonsense", "/ipfs/", "/ipfs/nonsense", "/ipns/nonsense", "/ipns/"):
        bad = publish(relay, value, 1, Ed25519PrivateKey.generate())
        assert 400 <= by_path(relay, f"/ipns/{bad}").status < 600
        assert b"Traceback" not in by_path(relay, f"/ipns/{bad}").body
    looking_at_itself = Ed25519PrivateKey.generate()
    name = publish(relay, "/ipfs/bafkqaaa", 1, looking_at_itself)
    publish(relay, f"/ipns/{name}", 2, looking_at_itself)
    assert by_path(relay, f"/ipns/{name}").status == 502


def test_names_of_dns(relay: Served, root: bytes) -> None:
    host = f"localhost:{relay.port}"
    inlined = "docs--site-example-org"
    assert relay.get(LINKED).body == FIRST
    assert relay.get(LINKED.upper() + ":80").body == FIRST
    assert by_path(relay, f"/ipns/{LINKED}").body == FIRST
    assert relay.get(host, f"/ipns/{LINKED}/").headers["location"] == f"http://{inlined}.ipns.{host}/"
    assert relay.get(f"{inlined}.ipns.{host}").body == FIRST
    assert relay.get(f"{LINKED}.ipns.{host}").body == FIRST
    assert relay.get(OVER_KEY).body == FIRST
    assert relay.get("deeper.example.org", "/page.html").body == SECOND
    assert relay.get(LINKED).headers["cache-control"] == "public, max-age=60"
    assert by_path(relay, "/ipns/unknown.example.org").status == 404
    assert by_path(relay, "/ipns/one.example.org").status == 502
    assert relay.get("one.example.org").status == 502


def test_names_open_no_door(served: Served) -> None:
    """Nothing is served under a name that is not under its CID."""
    loose = served.store({"index.html": b"uploaded, never to be deployed"})
    name = publish(served, f"/ipfs/{cids.to_text(loose)}", 1, Ed25519PrivateKey.generate())
    for answer in (
        by_path(served, f"/ipns/{name}"),
        by_path(served, f"/ipns/{name}?format=car"),
        served.get(f"{name}.ipns.localhost:{served.port}"),
    ):
        assert answer.status == 404
        assert b"uploaded" not in answer.body


def test_a_server_in_front_tells_who_was_asked(relay: Served, root: bytes) -> None:
    text = cids.to_text(root)
    for headers, location in (
        ({"x_forwarded_proto": "https"}, f"https://{text}.ipfs.localhost/"),
        ({"x_forwarded_proto": "javascript"}, f"http://{text}.ipfs.localhost/"),
    ):
        moved = relay.get("localhost", f"/ipfs/{text}/", **headers)
        assert (moved.status, moved.headers["location"]) == (301, location)
        assert "X-Forwarded-Proto" in moved.headers["vary"]
    moved = relay.get("inner", f"/ipfs/{text}/", x_forwarded_host="localhost:99", x_forwarded_proto="https")
    assert moved.headers["location"] == f"https://{text}.ipfs.localhost:99/"
    for nonsense in ("evil.example", "localhost/../evil", "a b", "localhost@evil.example"):
        assert relay.get("inner", f"/ipfs/{text}/", x_forwarded_host=nonsense).status == 200


def test_browsers_links_are_followed(relay: Served) -> None:
    for uri, location in (
        ("ipfs%3A%2F%2Fbafkqaaa%2Fa%2520b%3Fq%3D1", "/ipfs/bafkqaaa/a%20b?q=1"),
        (f"ipns%3A%2F%2F{LINKED}", f"/ipns/{LINKED}"),
    ):
        moved = relay.get("localhost", f"/{uri[:4]}/?uri={uri}")
        assert (moved.status, moved.headers["location"]) == (301, location)
    for wrong in ("", "uri=https%3A%2F%2Fevil.example", "uri=ipfs%3A%2F%2F", "uri=" + "a&" * 300):
        assert relay.get("localhost", f"/ipfs/?{wrong}").status == 400
