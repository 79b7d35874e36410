"""Uploads that are kept: listed, limited for a wallet and for the free tier together, and ended in time."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from decentraspace.api.kept import KeptUploads
from decentraspace.api.state import State
from decentraspace.config import load
from decentraspace.content import car
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import DecentraSpaceError, PaymentRequired, QuotaExceeded
from decentraspace.testing import until
from tests.api.small_node import Person, SmallNode

UPLOAD = "/storage/upload/"
FILE = {"Content-Type": "application/octet-stream"}
WEEK = 7 * 86400
ANNA, BERTA, CLARA = (bytes([n]) * 20 for n in (1, 2, 3))


class Desk:
    """The real stores; tiers in a dict."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder = folder
        storage = {"quota": limits.pop("quota", 100_000_000)}
        self.config = load(environ={}, overrides={"limits": limits, "storage": storage})
        self.tiers: dict[bytes, str] = {}
        self.open()

    def open(self) -> None:
        self.blocks = BlockStore.open(self.folder / "blocks", quota=self.config.storage.quota)
        self.state = State(self.folder / "api.sqlite")
        self.kept = KeptUploads(
            self.state, self.blocks, self.config, lambda owner: self.tiers.get(owner, "free")
        )

    def close(self) -> None:
        self.state.close()
        self.blocks.close()

    def put(self, size: int) -> bytes:
        data = os.urandom(size)
        cid = cids.make(cids.RAW, data)
        self.blocks.put_many([(cid, data)])
        return cid


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(**limits: Any) -> Desk:
        folder = tmp_path / f"desk{len(desks)}"
        folder.mkdir()
        desks.append(Desk(folder, **limits))
        return desks[-1]

    yield make
    for desk in desks:
        desk.close()


def outcome(desk: Desk, owner: bytes, root: bytes, **more: Any) -> type[BaseException] | None:
    try:
        desk.kept.keep(owner, root, **more)
    except DecentraSpaceError as error:
        return type(error)
    return None


def test_a_wallet_keeps_what_its_tier_allows(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(free_bytes=1000, paid_bytes=5000)
    one, two, three = (desk.put(size) for size in (600, 400, 1))
    assert outcome(desk, ANNA, one) is None
    assert outcome(desk, ANNA, two) is None
    assert outcome(desk, ANNA, one) is None, "the same again takes no more room"
    assert outcome(desk, ANNA, three) is PaymentRequired
    assert not desk.blocks.is_pinned(three)
    assert outcome(desk, BERTA, three) is None
    desk.kept.forget(ANNA, one)
    assert not desk.blocks.is_pinned(one)
    assert (desk.kept.used(ANNA), desk.kept.used(BERTA)) == (400, 1)
    desk.tiers[ANNA] = "paid"
    assert outcome(desk, ANNA, desk.put(4600)) is None
    assert outcome(desk, ANNA, desk.put(1)) is PaymentRequired


def test_uploads_at_once_do_not_all_pass(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(free_bytes=100_000)
    for _ in range(5):
        roots = [desk.put(60_000) for _ in range(8)]
        gate = threading.Barrier(8)

        def race(root: bytes, gate: threading.Barrier = gate) -> type[BaseException] | None:
            gate.wait()
            return outcome(desk, ANNA, root)

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(race, roots))
        assert sorted(map(str, results)) == sorted(map(str, [None] + [PaymentRequired] * 7))
        [one] = desk.kept.listed(ANNA)
        assert [root for root, _ in desk.blocks.pins()] == [one.root]
        desk.kept.forget(ANNA, one.root)


def test_one_root_uploaded_and_given_up_at_once_stays_in_step(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    root = desk.put(1000)

    def work(number: int) -> None:
        for _ in range(10):
            if number % 2:
                desk.kept.keep(ANNA, root)
            else:
                desk.kept.forget(ANNA, root)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert bool(desk.kept.listed(ANNA)) == desk.blocks.is_pinned(root)
    assert desk.kept.used(ANNA) == (1000 if desk.blocks.is_pinned(root) else 0)


def test_the_free_tier_has_a_share_of_the_node(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(quota=10_000_000, free_upload_percent=10, free_bytes=600_000)
    assert outcome(desk, ANNA, desk.put(500_000)) is None
    assert outcome(desk, BERTA, desk.put(500_000)) is None
    last = desk.put(1)
    with pytest.raises(QuotaExceeded) as caught:
        desk.kept.keep(CLARA, last)
    assert caught.value.problem_slug == "free-uploads-full"
    assert not desk.blocks.is_pinned(last)
    desk.tiers[CLARA] = "paid"
    assert outcome(desk, CLARA, last) is None
    desk.tiers[ANNA] = "paid"
    desk.kept.expire()  # looks at tiers, too
    assert outcome(desk, BERTA, desk.put(100_000)) is None


def test_uploads_of_the_free_tier_end_after_a_week(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    old, again, deployed, paid = (desk.put(100 + n) for n in range(4))
    for owner, root in ((ANNA, old), (ANNA, again), (ANNA, deployed), (BERTA, paid)):
        if owner == BERTA:
            desk.tiers[BERTA] = "paid"
        desk.kept.keep(owner, root, now=0)
    desk.blocks.pin(deployed, "site:something")
    kept = desk.kept.keep(ANNA, again, now=1000)
    assert (kept.created, kept.expires) == (0, WEEK + 1000)
    assert desk.kept.expire(WEEK - 1) == 0
    assert desk.kept.expire(WEEK) == 2
    assert [one.root for one in desk.kept.listed(ANNA)] == [again]
    assert [desk.blocks.is_pinned(r) for r in (old, again, deployed, paid)] == [False, True, True, True]
    assert desk.kept.used(ANNA) == 101
    assert desk.kept.expire(10 * WEEK) == 1
    assert [one.expires for one in desk.kept.listed(BERTA)] == [None]


def test_a_change_of_tier_changes_when_uploads_end(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    root = desk.put(100)
    desk.kept.keep(ANNA, root, now=0)
    desk.tiers[ANNA] = "paid"
    assert desk.kept.expire(2 * WEEK) == 0, "paid for in time"
    desk.tiers[ANNA] = "free"
    assert desk.kept.expire(2 * WEEK + 1) == 0, "no longer paid for: a week from now on"
    assert desk.kept.listed(ANNA)[0].expires == 3 * WEEK + 1
    assert desk.kept.expire(3 * WEEK + 1) == 1


def test_what_is_not_whole_is_not_kept(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    with pytest.raises(BlockMissing):
        desk.kept.keep(ANNA, cids.make(cids.RAW, b"never put"))
    assert (desk.kept.listed(ANNA), desk.kept.used(ANNA), list(desk.blocks.pins())) == ([], 0, [])


def test_a_start_makes_rows_and_pins_one_again(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    whole, row, pin, site = (desk.put(100 + n) for n in range(4))
    desk.kept.keep(ANNA, whole)
    desk.kept.keep(ANNA, row)
    desk.blocks.unpin(row, f"upload:{ANNA.hex()}")  # as if killed before the pin
    desk.blocks.pin(pin, f"upload:{BERTA.hex()}")  # of a version without rows
    desk.blocks.pin(site, "site:x")
    desk.close()
    desk.open()
    desk.kept.reconcile()
    assert [one.root for one in desk.kept.listed(ANNA)] == [whole]
    [adopted] = desk.kept.listed(BERTA)
    assert (adopted.root, adopted.bytes) == (pin, 102)
    assert adopted.expires is not None
    assert (desk.kept.used(ANNA), desk.kept.used(BERTA)) == (100, 102)
    assert {root for root, _ in desk.blocks.pins()} == {whole, pin, site}


# -- over HTTP


async def send(client: httpx.AsyncClient, person: Person, data: bytes) -> httpx.Response:
    return await client.post(UPLOAD, content=data, headers={**person.headers, **FILE})


async def begin(client: httpx.AsyncClient, person: Person, data: bytes) -> httpx.Response:
    headers = {**person.headers, **FILE, "Upload-Complete": "?0"}
    return await client.post(UPLOAD, content=data, headers=headers)


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).rpartition(":")[2]


async def test_ones_uploads_are_listed_in_pages(
    client: httpx.AsyncClient, person: Person, node: SmallNode
) -> None:
    sizes = {}
    for number in range(5):
        data = os.urandom(100 + number)
        answer = (await send(client, person, data)).json()
        assert answer["expires"].endswith("Z")
        sizes[answer["cid"]] = len(data)
    other = await Person(node).log_in(client)
    await send(client, other, b"somebody else's")

    found, cursor, pages = {}, "", 0
    while cursor is not None:
        page = await client.get(UPLOAD, params={"limit": 2, "cursor": cursor}, headers=person.headers)
        assert page.status_code == 200, page.text
        answer = page.json()
        assert (answer["bytes"], answer["limit"]) == (sum(sizes.values()), node.config.limits.free_bytes)
        found |= {one["cid"]: one["bytes"] for one in answer["uploads"]}
        cursor, pages = answer["next"], pages + 1
    assert (found, pages) == (sizes, 3)
    assert list(found) == sorted(found, key=cids.parse)

    gone = next(iter(found))
    assert (await client.delete(UPLOAD, params={"cid": gone}, headers=person.headers)).status_code == 204
    left = (await client.get(UPLOAD, headers=person.headers)).json()
    assert {one["cid"] for one in left["uploads"]} == set(found) - {gone}
    node.sessions.set_tier(person.address, "paid", person.address)
    left = (await client.get(UPLOAD, headers=person.headers)).json()
    assert [one["expires"] for one in left["uploads"]] == [None] * 4
    bad = await client.get(UPLOAD, params={"cursor": "nonsense"}, headers=person.headers)
    assert (bad.status_code, slug(bad)) == (400, "bad-input")
    assert (await client.get(UPLOAD)).status_code == 401
    assert (await client.head(UPLOAD, headers=person.headers)).status_code == 400, "HEAD is of one upload"


async def test_the_root_alone_uploads_again_what_is_here(client: httpx.AsyncClient, person: Person) -> None:
    files = {"a.txt": b"a" * 5000, "b.txt": b"b" * 5000}
    form = [("file", (name, data)) for name, data in files.items()]
    done = (await client.post(UPLOAD, files=form, headers=person.headers)).json()
    root = cids.parse(done["cid"])
    data = person.node.blocks.get_or_raise(root)
    assert len(data) < 1000
    person.node.sessions.set_tier(person.address, "paid", person.address)
    body = car.encode([root], [(root, data)])
    headers = {**person.headers, "Content-Type": "application/vnd.ipld.car"}
    again = await client.post(UPLOAD, content=body, headers=headers)
    assert (again.json()["cid"], again.json()["expires"]) == (done["cid"], None)


async def test_a_running_node_ends_uploads_by_itself(make_node: Callable[..., SmallNode]) -> None:
    node = make_node(storage={"gc_interval": 0.1}, limits={"free_upload_lifetime": 1.0, "free_sites": 1})
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        gone = cids.parse((await send(client, person, b"ends")).json()["cid"])
        site = cids.parse((await send(client, person, b"<h1>stays</h1>")).json()["cid"])
        deployed = await client.post("/hosting/deploy/", json=person.site(site), headers=person.headers)
        assert deployed.status_code == 200, deployed.text
        await until(lambda: not node.blocks.is_pinned(gone))
        listed = (await client.get(UPLOAD, headers=person.headers)).json()
        assert listed["bytes"] in (0, len(b"<h1>stays</h1>"))
        assert node.blocks.is_pinned(site)

        begun = await begin(client, person, b"nobody goes on")
        long_ago = time.time() - 2 * 86400
        for path in (node.config.data_dir / "uploads").iterdir():
            os.utime(path, (long_ago, long_ago))
        await until(lambda: list((node.config.data_dir / "uploads").iterdir()) == [])
        head = await client.head(begun.headers["location"], headers=person.headers)
        assert head.status_code == 404


async def test_wallets_of_the_free_tier_share_what_they_may_send(make_node: Callable[..., SmallNode]) -> None:
    node = make_node(storage={"quota": 10_000_000}, limits={"free_upload_percent": 10, "free_bytes": 400_000})
    async with node.serving() as client:
        answers = []
        for _ in range(4):
            person = await Person(node).log_in(client)
            answers.append(await send(client, person, os.urandom(300_000)))
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert slug(answers[-1]) == "upload-allowance"
        assert "free tier together" in answers[-1].json()["detail"]
        node.sessions.set_tier(person.address, "paid", person.address)
        assert (await send(client, person, os.urandom(300_000))).status_code == 200


async def test_uploads_under_way_count_as_what_the_node_keeps(make_node: Callable[..., SmallNode]) -> None:
    node = make_node(storage={"quota": 10_000_000}, limits={"free_upload_percent": 20})
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        assert (await begin(client, person, os.urandom(1_500_000))).status_code == 201
        # As if sent an hour ago: the spool is full all the same.
        with sqlite3.connect(node.config.data_dir / "api.sqlite") as db:
            db.execute("DELETE FROM uploaded")
        db.close()
        other = await Person(node).log_in(client)
        refused = await begin(client, other, os.urandom(600_000))
        assert (refused.status_code, slug(refused)) == (507, "quota-exceeded")
        node.sessions.set_tier(other.address, "paid", other.address)
        assert (await begin(client, other, os.urandom(6_000_000))).status_code == 201
        refused = await begin(client, other, os.urandom(3_000_000))
        assert (refused.status_code, slug(refused)) == (507, "quota-exceeded")
