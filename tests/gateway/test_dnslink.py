"""Names that a real name server knows: as hosts, in hosts of the gateway, and in paths."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from decentraspace.content import cid as cids
from decentraspace.names.cache import Bounds
from decentraspace.names.service import NameService
from tests.gateway.served import Served, until
from tests.names.knot import ZONE, Knot, Liar, knot

HOME = b"<p>at its own name"
PAGE = b"<p>below"
FILES = {"index.html": HOME, "sub/page.html": PAGE, "_redirects": b"/old /sub/page.html 302"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with knot(tmp_path_factory.mktemp("knot")) as running:
        yield running


@pytest.fixture(scope="module")
def linked(server: Knot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(
        tmp_path_factory.mktemp("linked"),
        names={"nameservers": [server.server], "timeout": 20.0},
        gateway={"public_url": "http://gateway.example", "fetch_timeout": 2.0},
    )
    # So that the tests need not wait for answers to be over.
    made.node.names = NameService.from_config(made.node.config, bounds=Bounds(0, 60, 0, 0, 0, 0))
    with made.serving() as running:
        yield running


@pytest.fixture(scope="module")
def root(linked: Served) -> str:
    """Of a deployed site."""
    return cids.to_text(linked.site(FILES).deploy({**FILES, "again": b""}).head.root)


def test_a_domain_with_a_link(linked: Served, server: Knot, root: str) -> None:
    name = server.link("docs", f"/ipfs/{root}", ttl=40)
    answer = linked.get(name)
    assert (answer.status, answer.body) == (200, HOME)
    assert answer.headers["x-ipfs-path"] == f"/ipns/{name}/"
    assert 0 < int(answer.headers["cache-control"].removeprefix("public, max-age=")) <= 40
    assert "content-security-policy" not in answer.headers  # it has an origin of its own
    assert linked.get(f"{name.upper()}.:80", "/sub/page.html").body == PAGE
    assert linked.get(name, "/old").headers["location"] == "/sub/page.html"
    # What looks like a path of the gateway is the site's own.
    assert linked.get(name, f"/ipfs/{root}/").status == 404


def test_a_name_in_a_path_and_in_a_host(linked: Served, server: Knot, root: str) -> None:
    name = server.link("a-b.deep", f"/ipfs/{root}/sub")
    gateway = f"localhost:{linked.port}"
    inlined = name.replace("-", "--").replace(".", "-")
    assert linked.get("127.0.0.1", f"/ipns/{name}/page.html").body == PAGE
    assert linked.get(gateway, f"/ipns/{name}/page.html").headers["location"] == (
        f"http://{inlined}.ipns.{gateway}/page.html"
    )
    for host in (inlined, name):
        assert linked.get(f"{host}.ipns.{gateway}", "/page.html").body == PAGE


def test_without_a_link(linked: Served, server: Knot, root: str) -> None:
    server.set("_dnslink.text", "v=spf1 -all")
    for name in (f"text.{ZONE}", f"missing.{ZONE}"):
        assert linked.get(name).status == 404
        assert linked.get("127.0.0.1", f"/ipns/{name}/").status == 404
        assert linked.get(name, f"/ipfs/{root}/").body == HOME  # a host that is nobody's
    assert linked.get("127.0.0.1", "/ipns/localhost/").status == 404


def test_names_that_lead_to_names(linked: Served, server: Knot, root: str) -> None:
    end = server.link("end", f"/ipfs/{root}")
    middle = server.link("middle", f"/ipns/{end}/sub", ttl=7)
    start = server.link("start", f"/ipns/{middle}")
    answer = linked.get(start, "/page.html")
    assert answer.body == PAGE
    assert int(answer.headers["cache-control"].removeprefix("public, max-age=")) <= 7  # the least of all


@pytest.mark.parametrize("length", [1, 2, 5])
def test_names_that_lead_in_a_circle(linked: Served, server: Knot, length: int) -> None:
    names = [f"circle{length}-{number}" for number in range(length)]
    for one, two in zip(names, [*names[1:], names[0]], strict=True):
        server.link(one, f"/ipns/{two}.{ZONE}")
    for answer in (
        linked.get(f"{names[0]}.{ZONE}"),
        linked.get("127.0.0.1", f"/ipns/{names[0]}.{ZONE}/"),
    ):
        assert answer.status == 502
        assert b"back to itself" in answer.body


def test_names_that_lead_ever_on(linked: Served, server: Knot) -> None:
    for number in range(20):
        server.link(f"line{number}", f"/ipns/line{number + 1}.{ZONE}")
    grows = server.link("grows", f"/ipns/grows.{ZONE}/{'x' * 200}")
    for name in (f"line0.{ZONE}", grows):
        assert linked.get(name).status == 502


@pytest.mark.parametrize(
    "path", ["/ipfs/nonsense", "/ipns/nonsense", "/ipns/localhost", "/ipfs/bafkqabtimvwgy3yk", "/ipfs/../x"]
)
def test_links_to_nonsense(linked: Served, server: Knot, path: str) -> None:
    answer = linked.get(server.link(f"wrong{abs(hash(path))}", path))
    assert answer.status in (400, 404, 502)
    assert b"Traceback" not in answer.body


def test_a_link_to_what_no_site_consists_of(linked: Served, server: Knot) -> None:
    """A name opens no door to content that is not served by its CID."""
    loose = linked.store({"index.html": b"uploaded, never deployed"})
    for cid in (cids.to_text(loose), cids.to_text(cids.make(cids.RAW, b"of nobody"))):
        name = server.link(f"loose{cid[-8:]}", f"/ipfs/{cid}")
        before = len(linked.fetches)
        for answer in (linked.get(name), linked.get("127.0.0.1", f"/ipns/{name}/?format=car")):
            assert answer.status == 404
            assert b"uploaded" not in answer.body
        assert len(linked.fetches) == before  # nobody has this node fetch by a name


def test_a_changed_link_shows(linked: Served, server: Knot, root: str) -> None:
    name = server.link("changing", f"/ipfs/{root}", ttl=0)
    assert linked.get(name).body == HOME
    server.link("changing", f"/ipfs/{root}/sub/page.html", ttl=0)
    until(lambda: linked.get(name).body == PAGE)
    server.set("_dnslink.changing")
    until(lambda: linked.get(name).status == 404)


def test_the_gateways_own_names_are_not_looked_up(linked: Served, root: str) -> None:
    before = linked.node.names.cache.counts.asked
    for host in ("gateway.example", "127.0.0.1", "[::1]:80", "localhost", f"{root}.ipfs.localhost", "node"):
        linked.get(host, f"/ipfs/{root}/")
    assert linked.node.names.cache.counts.asked == before


def test_many_visitors_of_one_name_ask_once(linked: Served, server: Knot, root: str) -> None:
    name = server.link("busy", f"/ipfs/{root}")
    before = linked.node.names.cache.counts.looked_up
    with ThreadPoolExecutor(20) as visitors:
        bodies = list(visitors.map(lambda _: linked.get(name).body, range(60)))
    assert bodies == [HOME] * 60
    assert linked.node.names.cache.counts.looked_up == before + 1


def test_a_silent_name_server_holds_up_nobody_else(
    linked: Served, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Liar(lambda _: []).serving() as silent:
        made = Served(
            tmp_path_factory.mktemp("silent"), names={"nameservers": [silent.server], "timeout": 0.5}
        )
        with made.serving() as served:
            owner = served.site(FILES)
            root = cids.to_text(owner.deploy({**FILES, "more": b""}).head.root)
            with ThreadPoolExecutor(30) as visitors:
                asking = [visitors.submit(served.get, f"n{n}.evil{n}.example") for n in range(29)]
                assert owner.get("/").body == HOME
                for asked in asking:
                    assert asked.result().status == 502
            # On a host whose owner may have a link, nothing else is served meanwhile.
            assert served.get("n0.evil0.example", f"/ipfs/{root}/").status == 502
            assert served.get("127.0.0.1", f"/ipfs/{root}/").body == HOME
