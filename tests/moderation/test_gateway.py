"""Real gateway workers: 410 and 451 within a second of the decision, for everybody, and then no longer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from decentraspace.content import cid as cids
from decentraspace.content.denylist import content, double_hash, modern
from decentraspace.errors import BlockedByLaw
from decentraspace.identity.ethereum import checksum_address
from decentraspace.identity.keys import NodeKey
from decentraspace.moderation import targets
from decentraspace.records.signing import sponsor
from tests.gateway.served import Answer, Owner, Served, until
from tests.records.factory import make_site

BAD = b"what somebody objects to"
FILES = {
    "index.html": b"<h1>fine</h1>",
    "bad.txt": BAD,
    "below/bad.txt": BAD,
    "below/good.txt": b"good",
    "big.bin": os.urandom(3_000_000),
}
FACTS = {"reason": "a <court> said so", "hidden": False, "by": bytes(20)}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("denylists")
    (folder / "a.deny").write_text("name: Shared <list>\n---\n")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, lists: Path) -> Iterator[Served]:
    node = Served(
        tmp_path_factory.mktemp("gateway"),
        gateway={"workers": 2},
        node={"contact": "abuse@node.example"},
        api={"public_url": "https://api.node.example"},
        moderation={"denylists": (str(lists),)},
    )
    node.node.hosting.copies.fetcher = node.node.hosting.fetcher
    with node.serving() as running:
        yield running


def block(served: Served, kind: str, text: str, status: int, **changes: Any) -> targets.Target:
    target = targets.parse(kind, text)
    moderation = served.node.hosting.moderation

    async def decide() -> None:
        await moderation.block(target, **{**FACTS, "status": status, **changes})

    served.call(decide)
    return target


def unblock(served: Served, target: targets.Target) -> None:
    served.call(served.node.hosting.moderation.unblock, target)


def always(ask: Callable[[], Answer], status: int) -> Answer:
    """Once both workers answer so: many connections in a row, spread over them."""

    def all_agree() -> Answer | None:
        answers = [ask() for _ in range(12)]
        return answers[0] if {one.status for one in answers} == {status} else None

    return until(all_agree, 10.0)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["site", "owner"])
@pytest.mark.parametrize("status", [410, 451])
def test_a_site_is_refused_by_the_next_request(kind: str, status: int, served: Served) -> None:
    """No worker has to notice anything: the index says so."""
    site, other = served.site(FILES), served.site(FILES)
    assert site.get().status == 200
    target = block(served, kind, site.site_id if kind == "site" else checksum_address(site.address), status)
    for path in ("/", "/big.bin", "/nothing"):
        for _ in range(4):
            answer = site.get(path)
            assert answer.status == status
            assert answer.headers["cache-control"] == "no-store"
    text = answer.body.decode()
    assert "this node&#x27;s operator: a &lt;court&gt; said so" in text
    assert 'href="mailto:abuse@node.example"' in text
    assert 'href="https://api.node.example/moderation/"' in text
    assert ("blocked-by" in answer.headers.get("link", "")) == (status == 451)
    assert site.get("/", "HEAD").status == status
    assert other.get().status == 200
    unblock(served, target)
    assert site.get().status == 200


def test_a_root_is_refused_in_every_form(served: Served) -> None:
    site = served.site(FILES)
    root = cids.parse(site.deploy({**FILES, "own": site.address}).urls["path"].split("/")[-2])
    text = cids.to_text(root)
    v0 = cids.to_text(cids.multihash(root), "base58btc")[1:]
    forms: list[Callable[[], Answer]] = [
        lambda: site.get("/"),
        lambda: site.get("/below/good.txt"),
        lambda: served.by_cid(root),
        lambda: served.by_cid(root, "/below/good.txt"),
        lambda: served.get(f"127.0.0.1:{served.port}", f"/ipfs/{text}/index.html"),
        lambda: served.get(f"127.0.0.1:{served.port}", f"/ipfs/{v0}/index.html"),
        lambda: served.get(f"localhost:{served.port}", f"/ipfs/{text}/"),
        lambda: served.by_cid(root, "/?format=raw"),
        lambda: served.by_cid(root, "/?format=car"),
    ]
    for ask in forms:
        assert ask().status in (200, 301)
    target = block(served, "cid", text, 410)
    for ask in forms:
        always(ask, 410)
    unblock(served, target)
    for ask in forms[:2]:
        always(ask, 200)
    until(lambda: all(ask().status in (200, 301) for ask in forms))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_file_is_refused_wherever_it_is(hidden: bool, served: Served) -> None:
    bad = b"bad, this time " + (b"and hidden" if hidden else b"in the open")
    site = served.site({**FILES, "bad.txt": bad, "below/bad.txt": bad, "a.html": b"x"})
    cid = cids.make(cids.RAW, bad)
    encoded = {"Accept_Encoding": "gzip"}
    for path in ("/bad.txt", "/below/bad.txt"):
        assert site.get(path).body == bad
    site.get("/bad.txt", **encoded)
    target = block(served, "cid", cids.to_text(cid), 451, hidden=hidden)
    for path in ("/bad.txt", "/below/bad.txt"):
        always(lambda path=path: site.get(path), 451)  # type: ignore[misc]
    always(lambda: site.get("/bad.txt", **encoded), 451)
    always(lambda: site.get("/bad.txt", Range="bytes=0-3"), 451)
    always(lambda: served.by_cid(cid), 451)
    always(lambda: served.by_cid(cid, "/?format=raw"), 451)
    always(lambda: site.get("/a.html"), 200)
    unblock(served, target)
    always(lambda: site.get("/bad.txt"), 200)


def test_part_of_a_large_file_is_refused(served: Served) -> None:
    """The whole is broken off, not shortened in secret; other parts are served."""
    big = os.urandom(5_000_000)
    site = served.site({"big.bin": big})
    leaf = cids.make(cids.RAW, big[262144 * 2 : 262144 * 3])
    target = block(served, "cid", cids.to_text(leaf), 451)
    always(lambda: site.get("/big.bin", Range="bytes=600000-600100"), 451)
    assert site.get("/big.bin", Range="bytes=0-99").body == big[:100]
    unblock(served, target)
    always(lambda: site.get("/big.bin", Range="bytes=600000-600100"), 206)


def test_a_list_is_obeyed_as_it_grows(served: Served, lists: Path) -> None:
    site = served.site({"index.html": b"listed", "secret/a.html": b"a", "secret/b.html": b"b"})
    root = served.node.hosting.index.get(site.host.partition(".")[0]).root
    with (lists / "a.deny").open("a") as file:
        file.write(f"/ipfs/{cids.to_text(root)}/secret*\n!/ipfs/{cids.to_text(root)}/secret/b.html\n")
    answer = always(lambda: site.get("/secret/a.html"), 410)
    assert b"denylist &#x27;Shared &lt;list&gt;&#x27;" in answer.body
    always(lambda: site.get("/secret//a.html"), 410)
    always(lambda: served.by_cid(root, "/secret/a.html"), 410)
    always(lambda: site.get("/secret/b.html"), 200)
    always(lambda: site.get("/"), 200)
    with (lists / "a.deny").open("a") as file:
        file.write(f"//{double_hash(modern(content(root), ''))} gateway_status:451\n")
    always(lambda: site.get("/"), 451)
    (lists / "a.deny").write_text("name: Shared <list>\n---\n")
    always(lambda: site.get("/secret/a.html"), 200)


def test_a_name_on_a_list(served: Served, lists: Path) -> None:
    site = served.site({"index.html": b"named"})
    path = lists / "b.deny"
    path.write_text(f"/ipns/{site.host.partition(':')[0]}\n")
    always(lambda: site.get("/"), 410)
    path.write_text("")
    always(lambda: site.get("/"), 200)


def test_names_that_lead_to_content(serve_again: Callable[..., Served]) -> None:
    """By DNSLink; a name is blocked, not what it leads to."""
    first = serve_again()
    with first.serving() as running:
        root = cids.to_text(running.node.hosting.index.get(running.site(FILES).host.partition(".")[0]).root)
    links = tuple(f"{name}.example=/ipfs/{root}" for name in ("good", "bad", "half"))
    path = first.node.config.data_dir.parent / "names.deny"
    path.write_text("/ipns/bad.example\n/ipns/half.example/below*\n")
    again = serve_again(
        gateway={"dnslink": (*links, "chain.example=/ipns/bad.example")},
        moderation={"denylists": (str(path),)},
    )
    with again.serving() as running:
        local = f"127.0.0.1:{running.port}"
        cases = {
            "/ipns/good.example/index.html": 200,
            "/ipns/bad.example/index.html": 410,
            "/ipns/half.example/index.html": 200,
            "/ipns/half.example/below/good.txt": 410,
            "/ipns/chain.example/index.html": 410,
        }
        assert {where: running.get(local, where).status for where in cases} == cases
        assert running.get("bad.example", "/index.html").status == 410
        assert running.get("good.example", "/index.html").status == 200


def test_a_site_blocked_before_its_first_visit(served: Served) -> None:
    """Not even in the index yet: what is put there is flagged from the start."""
    owner = Owner(served, "early")
    block(served, "owner", checksum_address(owner.address), 451)
    with pytest.raises(BlockedByLaw):
        owner.deploy({"index.html": b"early"})
    record = make_site(
        owner.wallet,
        owner.session,
        served.node.rules,
        label="early",
        root=served.store({"index.html": b"early"}),
        size=1000,
    )
    now = int(time.time())
    head = served.node.records.add(sponsor(record, NodeKey.generate(), now), now=now).heads[0]
    host = f"{head.host_label}.localhost:{served.port}"
    assert [served.get(host).status for _ in range(4)] == [451] * 4


def test_workers_that_start_later_know(serve_again: Callable[..., Served]) -> None:
    first = serve_again()
    with first.serving() as running:
        site = running.site(FILES)
        block(running, "cid", cids.to_text(cids.make(cids.RAW, BAD)), 451)
        always(lambda: site.get("/bad.txt"), 451)
    with serve_again().serving() as running:
        host = f"{site.host.partition(':')[0]}:{running.port}"
        assert running.get(host, "/bad.txt").status == 451
        assert running.get(host, "/").status == 200


@pytest.fixture
def serve_again(tmp_path: Path) -> Callable[..., Served]:
    return lambda **sections: Served(tmp_path / "again", **sections)
