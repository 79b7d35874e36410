"""Requests and clients that mean no good: refused in a word, and nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from decentraspace.content import car
from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from tests.gateway.served import Owner, Served, until

SECRET = b"<p>what is served"


@pytest.fixture(scope="module")
def site(served: Served) -> Owner:
    return served.site({"index.html": SECRET, "a/b.txt": b"b", "large.bin": b"x" * 20_000_000})


@pytest.fixture(autouse=True)
def still_serving(served: Served, site: Owner) -> Iterator[None]:
    """After each test, the same worker answers as before."""
    before = served.workers()
    yield
    assert site.get("/").body == SECRET
    assert served.workers() == before


HOSTS = [
    b"\xff\xfe",
    b"a b",
    b"localhost:99999999",
    b"localhost:80:80",
    b"[::1",
    b"[::1]]",
    b"../../etc",
    b"a" * 5000,
    b"user@localhost",
    b"localhost/path",
    b"localhost?x",
    b"local\x00host",
    b"{site}, {site}",
    b"{site}:x",
    b"x.{site}\\",
]


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_that_are_none(served: Served, site: Owner, host: bytes) -> None:
    with served.wire() as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: " + host.replace(b"{site}", site.host.encode()) + b"\r\n\r\n")
        answer = wire.answer()
        assert answer.status in (400, 404)
        assert SECRET not in answer.body


@pytest.mark.parametrize(
    "host", [b".localhost", b"..localhost", b"-.localhost", b"a.b.localhost", b".ipfs.localhost"]
)
def test_hosts_that_are_nobodys(served: Served, host: bytes) -> None:
    assert served.get(host.decode()).status in (400, 404)
    assert served.get("x" * 63 + ".localhost").status == 404
    assert served.get("x" * 64 + ".localhost").status == 404


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\n",  # no Host
        "GET / HTTP/1.1\r\nHost: {site}\r\nHost: {site}\r\n",
        "GET / HTTP/1.1\r\nHost: {site}\r\nHost: other.localhost\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n",
        "GET * HTTP/1.1\r\nHost: {site}\r\n",
        "GET index.html HTTP/1.1\r\nHost: {site}\r\n",
        "GET / HTTP/3.7\r\nHost: {site}\r\n",
        "GET / HTTP/1.1\r\nHost : {site}\r\n",
        "GET / HTTP/1.1\r\n Host: {site}\r\n",
        "GET /\x01 HTTP/1.1\r\nHost: {site}\r\n",
        "GET / HTTP/1.1\r\nHost: {site}\r\nContent-Length: -1\r\n",
        "GET / HTTP/1.1\r\nHost: {site}\r\nContent-Length: 1, 2\r\n",
        "GET / HTTP/1.1\r\nHost: {site}\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "GET / HTTP/1.1\r\nHost: {site}\r\nTransfer-Encoding: chunked, identity\r\n",
        "GET / HTTP/1.1\r\nHost: {site}\r\nTransfer-Encoding: xchunked\r\n",
        "GET / HTTP/1.1\r\nHost: {site}\r\nX: a\x00b\r\n",
        "nonsense\r\n",
        "GET / HTTP/1.1\r\nHost: {site}\r\n" + "X: y\r\n" * 200,
    ],
)
def test_heads_that_are_none(served: Served, site: Owner, head: str) -> None:
    with served.wire() as wire:
        wire.send(head.replace("{site}", site.host).encode("latin-1") + b"\r\n")
        answer = wire.answer()
        assert 400 <= answer.status < 500 or answer.status == 505, answer
        assert SECRET not in answer.body


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: {site}\r\nX: " + "a" * 150_000 + "\r\n", 431),
        ("GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: {site}\r\n", 414),
        ("GET /" + "a" * 9_000 + " HTTP/1.1\r\nHost: {site}\r\n", 414),
        ("GET /" + "a/" * 300 + " HTTP/1.1\r\nHost: {site}\r\n", 404),
        ("GET /?" + "a" * 60_000 + " HTTP/1.1\r\nHost: {site}\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: {site}\r\nX: " + "a" * 60_000 + "\r\n", 200),
    ],
)
def test_giants(served: Served, site: Owner, head: str, status: int) -> None:
    with served.wire() as wire:
        wire.send(head.replace("{site}", site.host).encode() + b"\r\n")
        assert wire.answer().status == status


@pytest.mark.parametrize(
    "path",
    [
        "/../index.html",
        "/a/../index.html",
        "/%2e%2e/index.html",
        "/a/%2E%2E/index.html",
        "/a/%2e./index.html",
        "/a/..%2findex.html",
        "/a%2f%2e%2e%2findex.html",
        "/./index.html",
        "/%2e/index.html",
        "/..\\index.html",
        "/%00",
        "/index.html%00",
        "/index.html%00.txt",
        "/%c0%ae%c0%ae/index.html",
        "/%c0%afindex.html",
        "/%e0%80%ae/index.html",
        "/%uff0e",
        "/%",
        "/%2",
        "/%zz",
        "/%ff%fe",
        "/%ed%a0%80",
        "/%252e%252e/index.html",
        "/index.html%0d%0aX-Injected:1",
        "/" + "%2e%2e%2f" * 500,
        "/" + "\u00ff" * 100,
    ],
)
def test_paths_that_lead_nowhere(site: Owner, served: Served, path: str) -> None:
    for answer in (site.get(path), site.get(path, "HEAD"), site.get(path, accept_encoding="br")):
        assert answer.status in (400, 404), answer
        assert b"x-injected" not in answer.head.lower()
        assert SECRET not in answer.body
    head = served.node.records.head(site.site_id)
    assert head is not None
    assert served.by_path(head.root, path).status in (400, 404)
    assert served.by_cid(head.root, path + "?format=car").status in (400, 404)


def test_no_answer_quotes_what_was_asked_as_markup(served: Served, site: Owner) -> None:
    for path in ("/%3Cscript%3Ealert(1)%3C/script%3E", '/"onmouseover="x', "/<b>"):
        for answer in (site.get(path), served.get("127.0.0.1", "/ipfs" + path)):
            assert b"<script>" not in answer.body
            assert b'"onmouse' not in answer.body
            assert b"<b>" not in answer.body


SMUGGLED = "GET /a/b.txt HTTP/1.1\r\nHost: {site}\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding:\x0bchunked\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Content-Length: {length}\r\nContent-Length: 0\r\n\r\n",
        "Content-Length: +{length}\r\n\r\n",
        "Content-Length: 0x10\r\n\r\n",
    ],
)
def test_no_second_request_hides_where_the_first_one_ends(served: Served, site: Owner, head: str) -> None:
    """Where two servers may disagree about the end of a request, the connection ends with its answer."""
    with served.wire() as wire:
        text = "GET / HTTP/1.1\r\nHost: {site}\r\n" + head + SMUGGLED
        text = text.replace("{length}", str(len(SMUGGLED) + 5)).replace("{site}", site.host)
        wire.send(text.encode("latin-1"))
        wire.answer()
        assert wire.ended()


def test_a_body_is_read_past(served: Served, site: Owner) -> None:
    hidden = SMUGGLED.replace("{site}", site.host).encode()
    with served.wire() as wire:
        for method in ("GET", "POST"):
            head = f"{method} / HTTP/1.1\r\nHost: {site.host}\r\nContent-Length: {len(hidden)}\r\n\r\n"
            wire.send(head.encode() + hidden)
            assert wire.answer().body in (SECRET, b"")
            try:
                assert wire.get(site.host, "/").body == SECRET
            except (EOFError, ConnectionError):
                wire = served.wire()  # closed instead: as good


# -- slow ones, and many


def memory(pid: int) -> int:
    """Bytes resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_clients_that_do_not_read_cost_little(served: Served, site: Owner) -> None:
    """Fifty of them, of 20 MB each: a server that keeps what they do not take would hold a gigabyte."""
    (worker,) = served.workers()
    site.get("/large.bin")
    before = memory(worker)
    with ExitStack() as stack:
        for _ in range(50):
            wire = stack.enter_context(served.wire())
            wire.send(f"GET /large.bin HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
            assert wire.socket.recv(100)
        assert site.get("/large.bin").body == b"x" * 20_000_000  # others get theirs meanwhile
        assert memory(worker) - before < 300_000_000


def test_idle_clients_keep_nobody_out(served: Served, site: Owner) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(served.wire()) for _ in range(900)]
        for number, wire in enumerate(wires):
            if number % 3 == 0:
                wire.send(b"GET / HTTP/1.1\r\nHos")
            elif number % 3 == 1:
                assert wire.get(site.host, "/").status == 200
        assert site.get("/").body == SECRET


def test_clients_that_leave_are_forgotten(served: Served, site: Owner) -> None:
    """Connections are closed when a download is given up."""
    (worker,) = served.workers()
    files = Path(f"/proc/{worker}/fd")
    site.get("/large.bin")
    before = len(list(files.iterdir()))
    for _ in range(30):
        with served.wire() as wire:
            wire.send(f"GET /large.bin HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
            wire.socket.recv(1000)
    until(lambda: len(list(files.iterdir())) <= before + 3)


def test_many_at_once_for_a_page_nobody_made_yet(served: Served) -> None:
    body = b"<p>" + b"made once " * 90_000
    site = served.site({"index.html": body})
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(site.get("/", accept_encoding="br").body)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 16
    assert len(set(answers)) == 1


def test_strangers_paths_do_not_push_out_pages(served: Served, site: Owner) -> None:
    (worker,) = served.workers()
    with served.wire() as wire:
        for number in range(500):
            wire.get(site.host, f"/{number}/" + "x" * 7000)
        before = memory(worker)
        for number in range(500, 3000):
            assert wire.get(site.host, f"/{number}/" + "x" * 7000).status == 404
    assert memory(worker) - before < 15_000_000


# -- content that gives out on the way


@pytest.fixture
def holed(serve: Callable[..., Served]) -> tuple[Served, bytes]:
    """A gateway, and a folder whose large file lacks a block near its end."""
    served = serve(gateway={"fetch_timeout": 3.0})
    data = b"".join(number.to_bytes(4, "big") * 65_536 for number in range(30))
    root = served.store({"large.bin": data, "whole.bin": b"whole" * 300_000})
    served.node.blocks.pin(root, "test")
    lost = cids.make(cids.RAW, data[20 * 262_144 : 21 * 262_144])
    with served.node.blocks.write() as txn:
        assert txn.delete(cids.multihash(lost), db=served.node.blocks.db["blocks"])
    return served, root


def test_a_file_with_a_hole_is_broken_off(holed: tuple[Served, bytes]) -> None:
    """Whoever counts bytes sees it."""
    served, root = holed
    with pytest.raises(EOFError):
        served.by_cid(root, "/large.bin")
    answer = served.by_cid(root, "/large.bin", range="bytes=0-1999999")
    assert (answer.status, len(answer.body)) == (206, 2_000_000)
    assert served.by_cid(root, "/large.bin", range="bytes=5242880-5300000").status == 504
    assert served.by_cid(root, "/whole.bin").body == b"whole" * 300_000


def test_a_car_with_a_hole_is_broken_off(holed: tuple[Served, bytes]) -> None:
    """The end of a chunked body says nothing: the CAR itself has to."""
    served, root = holed
    body = served.by_path(root, "/?format=car").body
    decoder = car.CarDecoder()
    blocks = decoder.feed(body)
    assert len(blocks) > 10
    with pytest.raises(BadInput):
        decoder.close()
    whole = car.CarDecoder()
    assert whole.feed(served.by_path(root, "/whole.bin?format=car").body)
    whole.close()
